//! Long words: a stack of pieces, each stable with the one before.
//!
//! Two ways lead forward. Merging a window of characters merge by merge gives a stable sequence (Lemma
//! 2), of which all but the last pieces, which lack what follows them, are taken if the first is stable
//! with the top of the stack: the whole is then stable, and hence right, whatever the window was. Where
//! it is not, pieces are tried one at a time, the longest first, and taken back where none fits.

use super::short::{self, Row};
use super::{PairTable, Symbol, WordMerger, NO_SYMBOL};
use crate::vocabulary::TokenId;

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct WordScratch {
    stack: Vec<Symbol>,
    /// A bit for each position that no stable sequence goes on from.
    dead: Vec<u64>,
    memo: Memo,
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

/// Pieces at the end of a window that are not taken. (In tests none, so that windows go wrong.)
const UNSURE: usize = if cfg!(test) { 0 } else { 2 };
/// How far it is from a window that did not fit to the next one, in bytes: it bounds what such windows
/// cost.
const PAUSE: usize = if cfg!(test) { 4 } else { 64 };

/// What a window gave.
enum Window {
    /// So many bytes, up to the end of the text or a character that is no piece.
    Whole(usize),
    /// So many bytes.
    Part(usize),
    /// Nothing that fits.
    Nothing,
}

impl WordMerger {
    /// Appends the ids of a text of any length.
    pub(super) fn encode_long(&self, text: &str, scratch: &mut WordScratch, out: &mut Vec<TokenId>) {
        let mut start = 0;
        // The first part ends before a character that is no piece; what follows is on its own.
        while start < text.len() {
            let end = start + self.encode_known(&text[start..], scratch);
            out.extend(scratch.stack.iter().map(|&symbol| self.ids[symbol as usize]));
            start = end;
            if let Some(c) = text[start..].chars().next() {
                self.unknown(&text.as_bytes()[start..start + c.len_utf8()], out);
                start += c.len_utf8();
            }
        }
    }

    /// Leaves on the stack the symbols of `text` up to its first character that is no piece, and returns
    /// where that is. No piece holds such a character, so the symbols before it do not depend on it.
    fn encode_known(&self, text: &str, scratch: &mut WordScratch) -> usize {
        let WordScratch { stack, dead, memo } = scratch;
        stack.clear();
        dead.clear();
        let mut position = 0;
        // Windows begin beyond all dead positions only, so that they cannot lead to one.
        let mut next_window = 0;
        loop {
            if position >= next_window {
                match self.push_window(&text[position..], stack, memo) {
                    Window::Whole(len) => return position + len,
                    Window::Part(len) => {
                        position += len;
                        continue;
                    }
                    Window::Nothing => next_window = position + PAUSE,
                }
            }
            let Some(mut candidate) = self.trie.longest_prefix(&text.as_bytes()[position..]) else {
                return position;
            };
            loop {
                let (len, shorter) = self.extents[candidate as usize];
                let end = position + len as usize;
                let fits = !is_dead(dead, end)
                    && stack.last().is_none_or(|&previous| self.stable_memo(previous, candidate, memo));
                if fits {
                    stack.push(candidate);
                    position = end;
                    break;
                }
                candidate = shorter;
                while candidate == NO_SYMBOL {
                    // BPE does something with every text, so this ends before the stack is empty.
                    let Some(last) = stack.pop() else { return position };
                    mark_dead(dead, position);
                    next_window = next_window.max(position + 1);
                    position -= self.extents[last as usize].0 as usize;
                    // From the longest again, since a window does not begin with that one. What did not
                    // fit does not fit now, and `last` leads to a dead position.
                    candidate = self.trie.longest_prefix(&text.as_bytes()[position..]).unwrap_or(NO_SYMBOL);
                }
            }
        }
    }

    /// Merges the first characters of `text` and takes what is sure of it.
    fn push_window(&self, text: &str, stack: &mut Vec<Symbol>, memo: &mut Memo) -> Window {
        let mut row = Row::default();
        let mut chars = text.chars();
        let whole = loop {
            if row.len() == short::LEN {
                break false;
            }
            match chars.next().map(|c| self.basic_plane.get(c as usize)) {
                Some(Some(&NO_SYMBOL)) | None => break true,
                Some(Some(&symbol)) => row.push(symbol),
                Some(None) => break false,
            }
        };
        row.merge(&self.pairs);
        let mut taken = row.count();
        if !whole {
            taken = taken.saturating_sub(UNSURE);
        }
        let mut symbols = row.symbols().take(taken).peekable();
        let fits = match (stack.last(), symbols.peek()) {
            (_, None) => false,
            (None, _) => true,
            (Some(&previous), Some(&first)) => self.stable_memo(previous, first, memo),
        };
        if !fits {
            return Window::Nothing;
        }
        let from = stack.len();
        stack.extend(symbols);
        let len = stack[from..].iter().map(|&symbol| self.extents[symbol as usize].0 as usize).sum();
        if whole {
            Window::Whole(len)
        } else {
            Window::Part(len)
        }
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
        let stable = self.stable(left, right);
        memo.0[place] = pair | if stable { STABLE } else { 0 };
        stable
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
