//! Long words: a stack of pieces, each stable with the one before, the longest tried first and taken
//! back where none fits after it.

use super::{PairTable, Symbol, WordMerger, NO_SYMBOL};
use crate::vocabulary::TokenId;

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct LongScratch {
    stack: Vec<Symbol>,
    /// A bit for each position that no stable sequence goes on from.
    dead: Vec<u64>,
    memo: Memo,
}

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
    pub(super) fn encode_long(&self, text: &str, scratch: &mut LongScratch, out: &mut Vec<TokenId>) {
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
    fn encode_known(&self, text: &str, scratch: &mut LongScratch) -> usize {
        let LongScratch { stack, dead, memo } = scratch;
        stack.clear();
        dead.clear();
        let mut position = 0;
        let Some(mut candidate) = self.trie.longest_prefix(text.as_bytes()) else { return 0 };
        loop {
            let (len, shorter) = self.extents[candidate as usize];
            let end = position + len as usize;
            let fits = !is_dead(dead, end)
                && stack.last().is_none_or(|&previous| self.stable_memo(previous, candidate, memo));
            if fits {
                stack.push(candidate);
                position = end;
                match self.trie.longest_prefix(&text.as_bytes()[position..]) {
                    Some(next) => candidate = next,
                    None => return position,
                }
                continue;
            }
            candidate = shorter;
            while candidate == NO_SYMBOL {
                // BPE does something with every text, so this ends before the stack is empty.
                let Some(last) = stack.pop() else { return position };
                mark_dead(dead, position);
                let (len, shorter) = self.extents[last as usize];
                position -= len as usize;
                candidate = shorter;
            }
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
