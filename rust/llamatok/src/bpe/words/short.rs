//! Short words: BPE merge by merge, of several words in turns.
//!
//! Each merge of a word waits for the one before: for the least of its candidates, then for two look-ups
//! of pairs. So a group of words is merged together, one merge of each in every turn, and the processor
//! works at one while another waits. The steps have no branches but the one that ends a word.

use super::{PairTable, Symbol, NO_SYMBOL};
use crate::bpe::scan::Level;

/// How many words are merged together.
pub(super) const ROWS: usize = 16;

/// Words of at most `LANES` characters that are merged together; `ROOM` is the double of `LANES`.
#[derive(Debug)]
pub(super) struct Group<const LANES: usize, const ROOM: usize> {
    rows: Box<[Row<LANES, ROOM>; ROWS]>,
    len: usize,
}

/// Characters, and then the symbols that they are merged into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<const LANES: usize, const ROOM: usize> {
    /// For each symbol that another one follows: what the two merge into, and the place of the first one
    /// in the bits below it, so that the least of them is the next merge to do: symbols of pieces are
    /// in the order of ranks. [`NO_SYMBOL`] for none.
    merges: [i32; ROOM],
    /// At [`Self::EDGE`] there is always [`NO_SYMBOL`].
    symbols: [Symbol; ROOM],
    /// For each symbol, the place of the one after it, or the edge.
    next: [u8; ROOM],
    /// The one before it, or the edge.
    prev: [u8; ROOM],
    /// Whether a character is no piece.
    pub(super) has_unknown: bool,
    /// What the caller knows the word by.
    pub(super) tag: u32,
}

impl<const LANES: usize, const ROOM: usize> Row<LANES, ROOM> {
    /// The place before the first symbol and after the last one.
    const EDGE: u8 = LANES as u8;
    const PLACE_BITS: u32 = {
        assert!(LANES.is_power_of_two() && ROOM == 2 * LANES && ROOM < 256);
        LANES.trailing_zeros()
    };
    /// No merge, at any place, is this or more.
    const NO_MERGE: i32 = (NO_SYMBOL << Self::PLACE_BITS) as i32;
    const EMPTY: Self = {
        let (mut next, mut prev) = ([0; ROOM], [0; ROOM]);
        let mut place = 0;
        while place < ROOM {
            next[place] = place as u8 + 1;
            prev[place] = (place as u8).wrapping_sub(1) % ROOM as u8;
            place += 1;
        }
        prev[0] = Self::EDGE;
        Self {
            merges: [Self::NO_MERGE; ROOM],
            symbols: [NO_SYMBOL; ROOM],
            next,
            prev,
            has_unknown: false,
            tag: 0,
        }
    };

    fn candidate(pairs: &PairTable, left: Symbol, right: Symbol, place: usize) -> i32 {
        (pairs.get(left, right) << Self::PLACE_BITS) as i32 | place as i32
    }

    /// Does the next merge; `false` if there is none.
    #[inline(always)]
    fn step(&mut self, pairs: &PairTable) -> bool {
        let least = self.merges[..LANES].iter().fold(i32::MAX, |least, &merge| least.min(merge));
        if least >= Self::NO_MERGE {
            return false;
        }
        // Places are below `ROOM` in any case; that the compiler sees it spares checks.
        let within = |place: u8| usize::from(place) % ROOM;
        let (product, place) = ((least >> Self::PLACE_BITS) as Symbol, least as usize % LANES);
        let right = within(self.next[place]);
        let after = within(self.next[right]);
        let before = within(self.prev[place]);
        self.symbols[place] = product;
        self.next[place] = after as u8;
        self.prev[after] = place as u8;
        self.merges[right] = Self::NO_MERGE;
        self.merges[place] = Self::candidate(pairs, product, self.symbols[after], place);
        // At the edge this is no merge, and none that is looked at.
        self.merges[before] = Self::candidate(pairs, self.symbols[before], product, before);
        true
    }

    /// The symbols that there are now.
    #[inline(always)]
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> + '_ {
        let mut place = 0;
        std::iter::from_fn(move || {
            (place != LANES).then(|| {
                let symbol = self.symbols[place];
                place = usize::from(self.next[place]) % ROOM;
                symbol
            })
        })
    }
}

impl<const LANES: usize, const ROOM: usize> Default for Group<LANES, ROOM> {
    fn default() -> Self {
        Self { rows: Box::new([Row::EMPTY; ROWS]), len: 0 }
    }
}

impl<const LANES: usize, const ROOM: usize> Group<LANES, ROOM> {
    pub(super) fn is_full(&self) -> bool {
        self.len == ROWS
    }

    /// Adds a word of `len` symbols, at least one and at most `LANES`, of which `symbol` tells each and
    /// `merge` what each and the next one merge into; there must be room.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        tag: u32,
        len: usize,
        symbol: impl Fn(usize) -> Symbol,
        merge: impl Fn(usize) -> Symbol,
    ) {
        let row = &mut self.rows[self.len];
        self.len += 1;
        row.tag = tag;
        let empty = &Row::<LANES, ROOM>::EMPTY;
        row.merges[..LANES].copy_from_slice(&empty.merges[..LANES]);
        row.next[..LANES].copy_from_slice(&empty.next[..LANES]);
        row.prev[..LANES].copy_from_slice(&empty.prev[..LANES]);
        let len = len.min(LANES);
        row.next[len - 1] = Row::<LANES, ROOM>::EDGE;
        row.has_unknown = false;
        for (place, slot) in row.symbols[..len].iter_mut().enumerate() {
            *slot = symbol(place);
            row.has_unknown |= *slot == NO_SYMBOL;
        }
        for (place, slot) in row.merges[..len - 1].iter_mut().enumerate() {
            *slot = (merge(place) << Row::<LANES, ROOM>::PLACE_BITS) as i32 | place as i32;
        }
    }

    /// Does all merges, and hands out the rows.
    pub(super) fn merge(&mut self, pairs: &PairTable, level: Level) -> &[Row<LANES, ROOM>] {
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level` has these only where the processor has AVX2 and BMI.
            Level::Avx2 | Level::Avx512 => unsafe { self.merge_avx2(pairs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level` has this only where the processor has SSE4.1.
            Level::Sse42 => unsafe { self.merge_sse42(pairs) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon => self.merge_by_turns(pairs),
            Level::Scalar => self.merge_by_turns(pairs),
        }
        &self.rows[..std::mem::take(&mut self.len)]
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn merge_avx2(&mut self, pairs: &PairTable) {
        self.merge_by_turns(pairs);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "sse4.1")]
    fn merge_sse42(&mut self, pairs: &PairTable) {
        self.merge_by_turns(pairs);
    }

    #[inline(always)]
    fn merge_by_turns(&mut self, pairs: &PairTable) {
        let mut active: [u8; ROWS] = std::array::from_fn(|index| index as u8);
        let mut count = self.len;
        while count > 0 {
            let mut kept = 0;
            for index in 0..count {
                let which = active[index];
                active[kept] = which;
                kept += usize::from(self.rows[usize::from(which) % ROWS].step(pairs));
            }
            count = kept;
        }
    }
}
