//! Long words: a stack of pieces, each stable with the one before, the longest tried first and taken
//! back where none fits after it.
//!
//! Very long words are also cut into *windows*, which are merged by themselves, several together. Where
//! the stack ends at a border within the result of a window, and the next piece there is stable with the
//! top of the stack, the rest of the result goes onto the stack as it is: its neighbours are stable, since
//! they are a result (Lemma 2). So windows change which sequence is tried first, but not which one
//! is found: a piece that came from a window and has to be taken back is followed by all others that begin
//! there, the longest first. At most once does a window go onto the stack, since it is not taken where
//! its end is dead, so the time stays linear.

use std::ops::Range;

use super::short::Group;
use super::{Level, PairTable, Symbol, WordMerger, NO_SYMBOL};
use crate::vocabulary::TokenId;

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct LongScratch {
    stack: Vec<Symbol>,
    /// A bit for each position that no stable sequence goes on from.
    dead: Vec<u64>,
    memo: Memo,
    windows: Windows,
}

/// The next windows of a text.
#[derive(Debug, Default)]
struct Windows {
    group: Group<WINDOW, { 2 * WINDOW }>,
    /// Where each begins and ends in the text, and what of `symbols` it becomes.
    parts: Vec<(Range<usize>, Range<usize>)>,
    symbols: Vec<Symbol>,
    /// Which of the windows may reach beyond the stack; and of its result the first symbol that has not
    /// been passed, and where that begins.
    current: usize,
    next: usize,
    position: usize,
}

/// On the stack, marks symbols that came from a window.
const FROM_WINDOW: Symbol = 1 << 31;
/// The least rest of a text that is worth windows, in bytes.
const MIN_WINDOWS: usize = 2 * WINDOW;
/// The most characters of a window.
const WINDOW: usize = 64;

impl LongScratch {
    /// The bytes that grow with a text.
    pub(crate) fn bytes(&self) -> usize {
        self.stack.capacity() * size_of::<Symbol>() + self.dead.capacity() * size_of::<u64>()
    }
}

/// Pairs of symbols that have been looked at, the latest at each place, and whether they are stable:
/// the left symbol in the upper half, the right one below, and the answer in the top bit.
#[derive(Debug)]
struct Memo(Box<[u64; 1 << MEMO_BITS]>);

const MEMO_BITS: u32 = 13;
const STABLE: u64 = 1 << 63;

impl Default for Memo {
    fn default() -> Self {
        // No symbol is as large as these.
        Self(Box::new([u64::MAX; 1 << MEMO_BITS]))
    }
}

impl WordMerger {
    /// Appends the ids of a text of any length.
    pub(super) fn encode_long(
        &self,
        level: Level,
        text: &str,
        scratch: &mut LongScratch,
        out: &mut Vec<TokenId>,
    ) {
        let mut start = 0;
        // The first part ends before a character that is no piece; what follows is on its own.
        while start < text.len() {
            let end = start + self.encode_known(level, &text[start..], scratch);
            out.extend(scratch.stack.iter().map(|&symbol| self.ids[(symbol & !FROM_WINDOW) as usize]));
            start = end;
            if let Some(c) = text[start..].chars().next() {
                self.unknown(&text.as_bytes()[start..start + c.len_utf8()], out);
                start += c.len_utf8();
            }
        }
    }

    /// Leaves on the stack the symbols of `text` up to its first character that is no piece, and returns
    /// where that is. No piece holds such a character, so the symbols before it do not depend on it.
    fn encode_known(&self, level: Level, text: &str, scratch: &mut LongScratch) -> usize {
        let LongScratch { stack, dead, memo, windows } = scratch;
        stack.clear();
        dead.clear();
        windows.clear();
        let text = text.as_bytes();
        let mut position = 0;
        'positions: loop {
            if text.len() - position >= MIN_WINDOWS && windows.end() <= position {
                self.merge_windows(level, text, position, windows);
            }
            if let Some(rest) = self.find_in_window(windows, position) {
                let end = windows.parts[windows.current].0.end;
                let fits = |&previous: &Symbol| {
                    self.stable_memo(previous & !FROM_WINDOW, windows.symbols[rest.start], memo)
                };
                if !is_dead(dead, end) && stack.last().is_none_or(fits) {
                    stack.extend(windows.symbols[rest].iter().map(|&symbol| symbol | FROM_WINDOW));
                    position = end;
                    continue;
                }
            }
            let Some(mut candidate) = self.trie.longest_prefix(&text[position..]) else { return position };
            loop {
                let (len, shorter) = self.extents[candidate as usize];
                let end = position + len as usize;
                let fits = |&previous: &Symbol| self.stable_memo(previous & !FROM_WINDOW, candidate, memo);
                if !is_dead(dead, end) && stack.last().is_none_or(fits) {
                    stack.push(candidate);
                    position = end;
                    continue 'positions;
                }
                candidate = shorter;
                while candidate == NO_SYMBOL {
                    // BPE does something with every text, so this ends before the stack is empty.
                    let Some(last) = stack.pop() else { return position };
                    mark_dead(dead, position);
                    let (len, shorter) = self.extents[(last & !FROM_WINDOW) as usize];
                    position -= len as usize;
                    candidate = if last & FROM_WINDOW == 0 {
                        shorter
                    } else {
                        self.trie.longest_prefix(&text[position..]).unwrap_or(NO_SYMBOL)
                    };
                }
            }
        }
    }

    /// Cuts windows off from `start` on, up to a character that is no piece or beyond the basic plane,
    /// and merges them.
    fn merge_windows(&self, level: Level, text: &[u8], start: usize, windows: &mut Windows) {
        windows.clear();
        let Windows { group, parts, symbols, .. } = windows;
        let mut end = start;
        while !group.is_full() {
            let mut row = [NO_SYMBOL; WINDOW];
            let (len, size) = self.known_symbols(&text[end..], &mut row);
            if len == 0 {
                break;
            }
            let (tag, symbol, window) =
                (parts.len() as u32, |place: usize| row[place], &text[end..end + size]);
            if window.is_ascii() {
                group.push(tag, len, symbol, |place| self.ascii_product(window, place));
            } else {
                group.push(tag, len, symbol, |place| self.pairs.get(row[place], row[place + 1]));
            }
            parts.push((end..end + size, 0..0));
            end += size;
        }
        for row in group.merge(&self.pairs, level) {
            let first = symbols.len();
            symbols.extend(row.symbols());
            parts[row.tag as usize].1 = first..symbols.len();
        }
        windows.position = start;
        windows.next = parts.first().map_or(0, |(_, symbols)| symbols.start);
    }

    /// What a window becomes from `position` on, if its result has a border there.
    fn find_in_window(&self, windows: &mut Windows, position: usize) -> Option<Range<usize>> {
        while let Some((text, symbols)) = windows.parts.get(windows.current) {
            if position < text.end {
                while windows.position < position {
                    windows.position += self.extents[windows.symbols[windows.next] as usize].0 as usize;
                    windows.next += 1;
                }
                // Where the search has gone back, the window's borders are behind it and not looked at.
                return (windows.position == position).then_some(windows.next..symbols.end);
            }
            windows.current += 1;
            let (text, symbols) = windows.parts.get(windows.current)?;
            (windows.position, windows.next) = (text.start, symbols.start);
        }
        None
    }

    /// [`stable`](Self::stable), from memory where it is there.
    #[inline]
    fn stable_memo(&self, left: Symbol, right: Symbol, memo: &mut Memo) -> bool {
        let pair = u64::from(left) << 32 | u64::from(right);
        let place = (PairTable::hash(left, right) >> (64 - MEMO_BITS)) as usize;
        let known = memo.0[place];
        if known & !STABLE == pair {
            return known & STABLE != 0;
        }
        let stable = self.stable((left, right), |left, right| self.pairs.get(left, right));
        memo.0[place] = pair | if stable { STABLE } else { 0 };
        stable
    }
}

impl Windows {
    fn clear(&mut self) {
        self.parts.clear();
        self.symbols.clear();
        self.current = 0;
    }

    /// Where the last one ends.
    fn end(&self) -> usize {
        self.parts.last().map_or(0, |(text, _)| text.end)
    }
}

fn is_dead(dead: &[u64], position: usize) -> bool {
    dead.get(position / 64).is_some_and(|bits| bits >> (position % 64) & 1 == 1)
}

fn mark_dead(dead: &mut Vec<u64>, position: usize) {
    if dead.len() <= position / 64 {
        dead.resize(position / 64 + 1, 0);
    }
    dead[position / 64] |= 1 << (position % 64);
}
