//! Short words: BPE merge by merge.

use super::{PairTable, Symbol, MAX_SYMBOLS, NO_SYMBOL};

/// The most characters of a row.
pub(super) const LEN: usize = 32;
const PLACE_BITS: u32 = LEN.trailing_zeros();
/// A merge that there is not.
const NO_MERGE: i32 = i32::MAX;
const _: () = assert!(MAX_SYMBOLS * LEN < NO_MERGE as usize);

/// Characters, and then the symbols that they are merged into.
pub(super) struct Row {
    symbols: [Symbol; LEN],
    len: usize,
    /// For each symbol, the place of the one after it; `len` or more for the last one.
    next: [u8; LEN],
}

impl Default for Row {
    fn default() -> Self {
        Self { symbols: [NO_SYMBOL; LEN], len: 0, next: std::array::from_fn(|place| place as u8 + 1) }
    }
}

impl Row {
    /// The number of characters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a character; there must be fewer than [`LEN`].
    pub(super) fn push(&mut self, symbol: Symbol) {
        self.symbols[self.len] = symbol;
        self.len += 1;
    }

    /// Does all merges.
    pub(super) fn merge(&mut self, pairs: &PairTable) {
        let Self { symbols, len, next } = self;
        let len = *len;
        // For each symbol that another one follows: what the two merge into, and the place of the first
        // one below it, so that the least of them is the next merge to do: symbols of pieces are in the
        // order of ranks.
        let mut merges = [NO_MERGE; LEN];
        let merge = |left: Symbol, right: Symbol, place: usize| {
            if left == NO_SYMBOL || right == NO_SYMBOL {
                return NO_MERGE;
            }
            pairs.get(left, right).map_or(NO_MERGE, |product| (product << PLACE_BITS) as i32 | place as i32)
        };
        let mut prev: [u8; LEN] = std::array::from_fn(|place| (place as u8).wrapping_sub(1));
        for place in 1..len {
            merges[place - 1] = merge(symbols[place - 1], symbols[place], place - 1);
        }
        let lanes = len.next_multiple_of(8).min(LEN);
        loop {
            let least = merges[..lanes].iter().fold(NO_MERGE, |least, &merge| least.min(merge));
            if least == NO_MERGE {
                return;
            }
            let (product, place) = ((least >> PLACE_BITS) as Symbol, least as usize % LEN);
            let right = usize::from(next[place]);
            let after = usize::from(next[right]);
            symbols[place] = product;
            next[place] = after as u8;
            merges[right] = NO_MERGE;
            merges[place] = NO_MERGE;
            if after < len {
                prev[after] = place as u8;
                merges[place] = merge(product, symbols[after], place);
            }
            if place > 0 {
                let before = usize::from(prev[place]);
                merges[before] = merge(symbols[before], product, before);
            }
        }
    }

    /// The symbols that there are now.
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> + '_ {
        let next = |&place: &usize| Some(usize::from(self.next[place])).filter(|&next| next < self.len);
        std::iter::successors(Some(0).filter(|_| self.len > 0), next).map(|place| self.symbols[place])
    }
}
