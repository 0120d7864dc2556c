//! The merges of word pieces.

use super::{Symbol, MAX_SYMBOLS, NO_SYMBOL, SYMBOL_BITS};

/// Pairs of symbols and their products, by perfect hashing: each pair has one slot, and no two have the
/// same. Most look-ups of a merger wait for memory that is not in the nearest caches, so that one load from
/// a table without gaps counts for more than the arithmetic before it; and there is no branch on
/// what is found, which would be guessed wrong every other time.
///
/// A pair belongs to a *bucket* of a few, and each bucket has a displacement, found by trying, that sends
/// all its pairs to slots of their own (hash and displace: Pagh 1999; the largest buckets first, as in
/// Belazzougui, Botelho and Dietzfelbinger 2009).
#[derive(Debug, Default)]
pub(super) struct PairTable {
    /// Left, right and product, each of [`SYMBOL_BITS`] bits; or [`EMPTY`].
    slots: Box<[u64]>,
    displacements: Box<[u16]>,
    /// What leaves the number of a bucket.
    shift: u32,
    factors: [u64; 2],
}

const _: () = assert!(NO_SYMBOL < 1 << SYMBOL_BITS && MAX_SYMBOLS <= NO_SYMBOL as usize);
const SYMBOL_MASK: u64 = (1 << SYMBOL_BITS) - 1;
/// The pair of it is none, since pairs have 42 bits.
const EMPTY: u64 = u64::MAX;

/// How many pairs a bucket has on average, at most.
const BUCKET_PAIRS: usize = 5;
/// How often other factors are tried, every fourth time with more slots.
const MAX_ATTEMPTS: u32 = 32;

const FACTORS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];

impl PairTable {
    /// A table of `entries`, each with another pair; none if no table of a bearable size takes them.
    pub(super) fn new(entries: impl Iterator<Item = ((Symbol, Symbol), Symbol)>) -> Option<Self> {
        let entries: Vec<u64> = entries
            .map(|(pair, product)| pair_of(pair.0, pair.1) << SYMBOL_BITS | u64::from(product))
            .collect();
        let bits = (entries.len() / BUCKET_PAIRS + 1).next_power_of_two().trailing_zeros().max(1);
        (0..MAX_ATTEMPTS).find_map(|attempt| {
            let slots = entries.len() + entries.len() / 8 + entries.len() * (attempt / 4) as usize / 4 + 1;
            let mut table = Self {
                slots: vec![EMPTY; slots].into(),
                displacements: vec![0; 1 << bits].into(),
                shift: 64 - bits,
                factors: FACTORS
                    .map(|factor| if attempt == 0 { factor } else { odd(factor ^ u64::from(attempt)) }),
            };
            table.fill(&entries).then_some(table)
        })
    }

    /// Gives each entry a slot; `false` if some bucket finds no displacement.
    fn fill(&mut self, entries: &[u64]) -> bool {
        let mut by_bucket: Vec<(usize, u64)> =
            entries.iter().map(|&entry| (self.bucket(self.mix(entry >> SYMBOL_BITS)), entry)).collect();
        by_bucket.sort_unstable();
        let mut buckets: Vec<&[(usize, u64)]> = by_bucket.chunk_by(|a, b| a.0 == b.0).collect();
        buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.len()));
        buckets.iter().all(|bucket| (0..=u16::MAX).any(|displacement| self.put(bucket, displacement)))
    }

    /// Puts the entries of a bucket where a displacement sends them, if all those slots are free.
    fn put(&mut self, bucket: &[(usize, u64)], displacement: u16) -> bool {
        for (done, &(_, entry)) in bucket.iter().enumerate() {
            let slot = self.slot(self.mix(entry >> SYMBOL_BITS), displacement);
            if self.slots[slot] != EMPTY {
                for &(_, entry) in &bucket[..done] {
                    let slot = self.slot(self.mix(entry >> SYMBOL_BITS), displacement);
                    self.slots[slot] = EMPTY;
                }
                return false;
            }
            self.slots[slot] = entry;
        }
        self.displacements[bucket[0].0] = displacement;
        true
    }

    #[inline(always)]
    fn mix(&self, pair: u64) -> u64 {
        pair.wrapping_mul(self.factors[0])
    }

    #[inline(always)]
    fn bucket(&self, mixed: u64) -> usize {
        (mixed >> self.shift) as usize
    }

    #[inline(always)]
    fn slot(&self, mixed: u64, displacement: u16) -> usize {
        // The displacement goes where all pairs of a bucket differ, and from there into all higher bits.
        let hash = (mixed ^ u64::from(displacement) << 24).wrapping_mul(self.factors[1]) >> 32;
        ((hash * self.slots.len() as u64) >> 32) as usize
    }

    /// What two symbols merge into, or [`NO_SYMBOL`].
    #[inline(always)]
    pub(super) fn get(&self, left: Symbol, right: Symbol) -> Symbol {
        let pair = pair_of(left, right);
        let mixed = self.mix(pair);
        let entry = self.slots[self.slot(mixed, self.displacements[self.bucket(mixed)])];
        if entry >> SYMBOL_BITS == pair {
            (entry & SYMBOL_MASK) as Symbol
        } else {
            NO_SYMBOL
        }
    }

    /// A number that depends on both symbols, the upper bits on all of them.
    #[inline]
    pub(super) fn hash(left: Symbol, right: Symbol) -> u64 {
        let mixed = pair_of(left, right).wrapping_mul(FACTORS[0]);
        (mixed ^ mixed >> 32).wrapping_mul(FACTORS[1])
    }
}

#[inline(always)]
fn pair_of(left: Symbol, right: Symbol) -> u64 {
    u64::from(left) << SYMBOL_BITS | u64::from(right)
}

/// An odd number that has little to do with `seed` (the finalizer of SplitMix64).
fn odd(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_and_no_others() {
        for count in [0u32, 1, 2, 30, 1000, 30_000, 300_000] {
            // As if all pieces were made of few characters.
            let pair = |index: u32| (index % 7, index / 7);
            let table = PairTable::new((0..count).map(|index| (pair(index), index))).unwrap();
            for index in 0..count {
                let (left, right) = pair(index);
                assert_eq!(table.get(left, right), index);
                assert_eq!(table.get(right + 7, left), NO_SYMBOL);
            }
            assert_eq!(table.get(NO_SYMBOL, 0), NO_SYMBOL);
            assert_eq!(table.get(NO_SYMBOL, NO_SYMBOL), NO_SYMBOL);
        }
    }
}
