//! The merges of word pieces.

use super::{Symbol, MAX_SYMBOLS, NO_SYMBOL, SYMBOL_BITS};

/// Pairs of symbols and their products, by cuckoo hashing: a pair is in one of two slots, so that a
/// look-up is two loads and no branch. Most look-ups of a merger are of pairs that it has not seen
/// before, and half of them find nothing; a branch on that would be guessed wrong every other time.
#[derive(Debug)]
pub(super) struct PairTable {
    /// Left, right and product, each of [`SYMBOL_BITS`] bits; or [`EMPTY`].
    slots: Vec<u64>,
    shift: u32,
    factors: [u64; 2],
}

const _: () = assert!(NO_SYMBOL < 1 << SYMBOL_BITS && MAX_SYMBOLS <= NO_SYMBOL as usize);
const SYMBOL_MASK: u64 = (1 << SYMBOL_BITS) - 1;
/// The pair of it is none, since pairs have 42 bits.
const EMPTY: u64 = u64::MAX;

/// How many entries an insertion moves before the table is made anew.
const MAX_MOVES: usize = 500;
/// How often a table is made anew for an entry, twice as large every fourth time.
const MAX_REBUILDS: u32 = 16;

const FACTORS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];

impl PairTable {
    /// An empty table for at most `capacity` pairs.
    pub(super) fn new(capacity: usize) -> Self {
        // Two places for an entry do up to a load of a half.
        let bits = (capacity * 17 / 8).next_power_of_two().trailing_zeros().max(6);
        Self { slots: vec![EMPTY; 1 << bits], shift: 64 - bits, factors: FACTORS }
    }

    #[inline(always)]
    fn places(&self, pair: u64) -> [usize; 2] {
        let first = pair.wrapping_mul(self.factors[0]);
        let second = (first ^ first >> 32).wrapping_mul(self.factors[1]);
        [(first >> self.shift) as usize, (second >> self.shift) as usize]
    }

    /// Adds a pair that is not in the table; `false` if no table of a bearable size takes it.
    pub(super) fn insert(&mut self, (left, right): (Symbol, Symbol), product: Symbol) -> bool {
        let pair = u64::from(left) << SYMBOL_BITS | u64::from(right);
        let homeless = self.place(pair << SYMBOL_BITS | u64::from(product));
        homeless.is_none_or(|homeless| self.rebuild(homeless))
    }

    /// Puts an entry into one of its places, what was there into its other place, and so on; gives
    /// the entry that is left over where that does not end.
    fn place(&mut self, mut entry: u64) -> Option<u64> {
        let [first, second] = self.places(entry >> SYMBOL_BITS);
        let mut place = if self.slots[first] == EMPTY { first } else { second };
        for _ in 0..MAX_MOVES {
            entry = std::mem::replace(&mut self.slots[place], entry);
            if entry == EMPTY {
                return None;
            }
            let [first, second] = self.places(entry >> SYMBOL_BITS);
            place = if place == first { second } else { first };
        }
        Some(entry)
    }

    /// Makes the table anew, with other factors and in the end larger, and another entry in it.
    fn rebuild(&mut self, homeless: u64) -> bool {
        let mut entries: Vec<u64> = self.slots.iter().copied().filter(|&entry| entry != EMPTY).collect();
        entries.push(homeless);
        let bits = 64 - self.shift;
        (1..=MAX_REBUILDS).any(|attempt| {
            let bits = bits + attempt / 4;
            self.slots = vec![EMPTY; 1 << bits];
            self.shift = 64 - bits;
            self.factors = self.factors.map(|factor| odd(factor ^ u64::from(attempt)));
            entries.iter().all(|&entry| self.place(entry).is_none())
        })
    }

    /// What two symbols merge into, or [`NO_SYMBOL`].
    #[inline(always)]
    pub(super) fn get(&self, left: Symbol, right: Symbol) -> Symbol {
        let pair = u64::from(left) << SYMBOL_BITS | u64::from(right);
        let product = |place: usize| {
            let entry = self.slots[place];
            let product = (entry & SYMBOL_MASK) as Symbol;
            if entry >> SYMBOL_BITS == pair {
                product
            } else {
                NO_SYMBOL
            }
        };
        let [first, second] = self.places(pair);
        product(first).min(product(second))
    }

    /// A number that depends on both symbols, the upper bits on all of them.
    #[inline]
    pub(super) fn hash(left: Symbol, right: Symbol) -> u64 {
        let pair = u64::from(left) << SYMBOL_BITS | u64::from(right);
        let mixed = pair.wrapping_mul(FACTORS[0]);
        (mixed ^ mixed >> 32).wrapping_mul(FACTORS[1])
    }
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
        for count in [0u32, 1, 30, 1000, 30_000] {
            // As if all pieces were made of few characters; twice what there is said to be room for.
            let mut table = PairTable::new(count as usize / 2);
            let pair = |index: u32| (index % 7, index / 7);
            for index in 0..count {
                assert!(table.insert(pair(index), index));
            }
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
