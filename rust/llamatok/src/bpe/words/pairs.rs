//! The merges of word pieces.

use super::{Symbol, MAX_SYMBOLS};

/// Pairs of symbols and their products: open addressing behind a filter that turns most others away.
#[derive(Debug)]
pub(super) struct PairTable {
    filter: Vec<u64>,
    /// Left, right and product, each of [`SYMBOL_BITS`] bits; or [`EMPTY`].
    slots: Vec<u64>,
    shift: u32,
}

const SYMBOL_BITS: u32 = MAX_SYMBOLS.trailing_zeros();
const EMPTY: u64 = u64::MAX;
/// How many bits the filter has for each slot, as a power of two.
const FILTER_BITS: u32 = 3;

impl PairTable {
    /// An empty table for at most `capacity` pairs.
    pub(super) fn new(capacity: usize) -> Self {
        let bits = (capacity * 2).next_power_of_two().trailing_zeros().max(6);
        Self {
            filter: vec![0; 1 << (bits + FILTER_BITS - 6)],
            slots: vec![EMPTY; 1 << bits],
            shift: 64 - bits,
        }
    }

    #[inline]
    pub(super) fn hash(left: Symbol, right: Symbol) -> u64 {
        let key = u64::from(left) << 32 | u64::from(right);
        let mixed = (key ^ key >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    #[inline]
    fn key(left: Symbol, right: Symbol) -> u64 {
        u64::from(left) << SYMBOL_BITS | u64::from(right)
    }

    pub(super) fn insert(&mut self, (left, right): (Symbol, Symbol), product: Symbol) {
        let hash = Self::hash(left, right);
        let bit = (hash >> (self.shift - FILTER_BITS)) as usize;
        self.filter[bit / 64] |= 1 << (bit % 64);
        let mut slot = (hash >> self.shift) as usize;
        while self.slots[slot] != EMPTY {
            slot = (slot + 1) % self.slots.len();
        }
        self.slots[slot] = Self::key(left, right) << SYMBOL_BITS | u64::from(product);
    }

    #[inline]
    pub(super) fn get(&self, left: Symbol, right: Symbol) -> Option<Symbol> {
        let hash = Self::hash(left, right);
        let bit = (hash >> (self.shift - FILTER_BITS)) as usize;
        if self.filter[bit / 64] >> (bit % 64) & 1 == 0 {
            return None;
        }
        let mut slot = (hash >> self.shift) as usize;
        loop {
            let entry = self.slots[slot];
            if entry == EMPTY {
                return None;
            }
            if entry >> SYMBOL_BITS == Self::key(left, right) {
                return Some((entry & ((1 << SYMBOL_BITS) - 1)) as Symbol);
            }
            slot = (slot + 1) % self.slots.len();
        }
    }
}
