//! What begins at each place of a text, found by reading it once from its end to its beginning.
//!
//! An automaton after Aho and Corasick (1975) of the strings turned round: the state behind a place tells the
//! longest beginning of a turned string that ends there, and so which strings begin at the place. Of these the
//! longest is kept for each state, so that the whole takes time in proportion to the text, however long the
//! strings are and whatever they have in common.

use crate::bpe::Map;

/// The number of no string.
pub(crate) const NOTHING: u32 = u32::MAX;

const ROOT: u32 = 0;

/// The automaton.
#[derive(Debug)]
pub(crate) struct Backward {
    children: Map<(u32, u8), u32>,
    /// For each state, that of the next shorter end that is a beginning.
    falls_to: Vec<u32>,
    /// For each state, the longest string that it is the whole of, or that one of those is to which it falls.
    longest: Vec<u32>,
}

impl Backward {
    /// The automaton of different strings, none of which is empty, with a number for each.
    pub(crate) fn new(strings: &[(Box<[u8]>, u32)]) -> Self {
        let mut made = Self { children: Map::default(), falls_to: vec![ROOT], longest: vec![NOTHING] };
        // Each state with the one before it, the byte between, and its depth.
        let mut states: Vec<(usize, u32, u8, u32)> = Vec::new();
        for (string, number) in strings {
            let mut state = ROOT;
            for (depth, &byte) in string.iter().rev().enumerate() {
                let next = made.longest.len() as u32;
                let child = *made.children.entry((state, byte)).or_insert(next);
                if child == next {
                    made.longest.push(NOTHING);
                    made.falls_to.push(ROOT);
                    states.push((depth, state, byte, child));
                }
                state = child;
            }
            made.longest[state as usize] = *number;
        }
        // From the root outwards: what a state falls to is nearer to it.
        states.sort_unstable_by_key(|state| state.0);
        for (depth, before, byte, state) in states {
            let falls_to = if depth == 0 { ROOT } else { made.next(made.falls_to[before as usize], byte) };
            made.falls_to[state as usize] = falls_to;
            if made.longest[state as usize] == NOTHING {
                made.longest[state as usize] = made.longest[falls_to as usize];
            }
        }
        made
    }

    fn next(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            if let Some(&child) = self.children.get(&(state, byte)) {
                return child;
            }
            if state == ROOT {
                return ROOT;
            }
            state = self.falls_to[state as usize];
        }
    }

    /// Writes the number of the longest string that begins at each of the first `len` places of `text`.
    pub(crate) fn read(&self, text: &[u8], len: usize, begins: &mut Vec<u32>) {
        begins.clear();
        begins.resize(len, NOTHING);
        let mut state = ROOT;
        for (place, &byte) in text.iter().enumerate().rev() {
            state = self.next(state, byte);
            if let Some(begins) = begins.get_mut(place) {
                *begins = self.longest[state as usize];
            }
        }
    }
}
