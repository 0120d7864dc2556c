//! The general merger: exact for every vocabulary, O(n log n) for every text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cuts::Adjacency;
use super::merges::{Merges, Symbol, NO_SYMBOL};
use super::Map;
use crate::normalize::UserDefinedMatcher;
use crate::random::Random;
use crate::stop;
use crate::vocabulary::{PieceKind, TokenId, Vocabulary};
use crate::{Error, Result};

/// How deep SentencePiece takes unused pieces apart (`kMaxBpeResegmentDepth`, sentencepiece 0.2.3).
const MAX_RESEGMENT_DEPTH: usize = 100;

/// How much text may be encoded between two looks whether to [stop], in bytes.
const LOOK_BYTES: usize = 64 << 10;

/// Encodes normalized text as SentencePiece's `bpe::Model::Encode` does.
#[derive(Debug)]
pub(crate) struct GeneralMerger {
    merges: Merges,
    adjacency: Adjacency,
    user_defined: Option<UserDefinedMatcher>,
    /// Whether merging may leave an unused piece.
    has_unused: bool,
}

/// A symbol of the text that is being merged.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// [`NO_SYMBOL`] for user-defined symbols, which do not merge.
    symbol: Symbol,
    /// Its length in bytes; 0 once it has been merged into the one before.
    len: u32,
    prev: u32,
    next: u32,
}

const NO_NODE: u32 = u32::MAX;

/// Buffers that calls share.
#[derive(Debug, Default)]
pub(crate) struct GeneralScratch {
    nodes: Vec<Node>,
    /// Pairs that may merge, as the rank of what they give, above the node on the left. An entry holds
    /// as long as the pair there still gives something of that rank; it need not be the same pair, since
    /// that one would stand at the same place of the agenda.
    agenda: BinaryHeap<Reverse<u64>>,
    /// For each unused piece that was a candidate, the pair that it came from last.
    splits: Map<TokenId, (Symbol, Symbol)>,
}

impl GeneralScratch {
    /// The bytes that grow with a text.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.agenda.capacity() * size_of::<u64>()
    }
}

/// Where ids go: unknown characters become bytes, or unknown pieces of which a run gives one.
pub(crate) struct Emitter<'a> {
    vocabulary: &'a Vocabulary,
    ids: &'a mut Vec<TokenId>,
    after_unknown: bool,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary, ids: &'a mut Vec<TokenId>) -> Self {
        Self { vocabulary, ids, after_unknown: false }
    }

    fn piece(&mut self, id: TokenId) {
        self.ids.push(id);
        self.after_unknown = false;
    }

    fn unknown(&mut self, text: &[u8]) {
        if let Some(bytes) = self.vocabulary.byte_ids() {
            self.ids.extend(text.iter().map(|&byte| bytes[usize::from(byte)]));
        } else {
            if !self.after_unknown {
                self.ids.push(self.vocabulary.unk_id());
            }
            self.after_unknown = true;
        }
    }
}

/// The error for text whose places 32 bits do not count.
pub(crate) fn uncut() -> Error {
    Error::unsupported("text", "4 GiB without a place where this vocabulary allows to cut")
}

impl GeneralMerger {
    pub(crate) fn new(vocabulary: &Vocabulary, user_defined: Option<UserDefinedMatcher>) -> Self {
        Self {
            merges: Merges::new(vocabulary),
            adjacency: Adjacency::new(vocabulary),
            user_defined,
            has_unused: vocabulary.pieces().iter().any(|piece| piece.kind == PieceKind::Unused),
        }
    }

    /// Appends the ids of `text`, which must be normalized and valid UTF-8.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for 4 GiB of text without a place
    /// where it may be cut.
    pub(crate) fn encode(
        &self,
        text: &str,
        scratch: &mut GeneralScratch,
        emitter: &mut Emitter<'_>,
    ) -> Result<()> {
        self.encode_cut(text, scratch, &mut || false, emitter)
    }

    /// As [`encode`](Self::encode), where each merge is left out with the given probability: its entry of
    /// the agenda is dropped, as sentencepiece's `SampleEncode` does it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn sample(
        &self,
        text: &str,
        scratch: &mut GeneralScratch,
        (probability, random): (f64, &mut Random),
        emitter: &mut Emitter<'_>,
    ) -> Result<()> {
        self.encode_cut(text, scratch, &mut || random.chance(probability), emitter)
    }

    /// Encodes `text`, leaving out the merges that `skips` says, part by part.
    fn encode_cut(
        &self,
        text: &str,
        scratch: &mut GeneralScratch,
        skips: &mut impl FnMut() -> bool,
        emitter: &mut Emitter<'_>,
    ) -> Result<()> {
        if self.has_unused {
            // How an unused piece is taken apart depends on the candidates of the whole text.
            return self.encode_uncut(text, scratch, skips, emitter);
        }
        let (mut start, mut next_look) = (0, LOOK_BYTES);
        let mut chars = text.char_indices();
        let Some((_, mut left)) = chars.next() else { return Ok(()) };
        for (index, right) in chars {
            if !self.adjacency.contains(left, right) {
                self.encode_uncut(&text[start..index], scratch, skips, emitter)?;
                start = index;
                if index >= next_look {
                    if stop::is_asked() {
                        return Ok(());
                    }
                    next_look = index + LOOK_BYTES;
                }
            }
            left = right;
        }
        self.encode_uncut(&text[start..], scratch, skips, emitter)
    }

    fn encode_uncut(
        &self,
        text: &str,
        scratch: &mut GeneralScratch,
        skips: &mut impl FnMut() -> bool,
        emitter: &mut Emitter<'_>,
    ) -> Result<()> {
        if text.len() >= NO_NODE as usize {
            return Err(uncut());
        }
        let GeneralScratch { nodes, agenda, splits } = scratch;
        nodes.clear();
        agenda.clear();
        splits.clear();
        self.split_into_symbols(text, nodes);
        let Some(last) = nodes.last_mut() else { return Ok(()) };
        last.next = NO_NODE;

        // All at once, since to put them in order one by one takes longer.
        let mut first = std::mem::take(agenda).into_vec();
        for left in 0..nodes.len() as u32 {
            first.extend(self.candidate(nodes, left, splits).map(Reverse));
        }
        *agenda = BinaryHeap::from(first);
        let mut rounds = 0;
        while let Some(Reverse(entry)) = agenda.pop() {
            rounds += 1;
            if stop::is_due(rounds, stop::ROUNDS) {
                return Ok(());
            }
            let left = entry as u32;
            let node = nodes[left as usize];
            if node.len == 0 || node.next == NO_NODE {
                continue;
            }
            let right = nodes[node.next as usize];
            let Some(product) = self.merges.pair(node.symbol, right.symbol) else { continue };
            if u64::from(self.merges.rank(product)) != entry >> 32 || skips() {
                continue;
            }
            nodes[node.next as usize].len = 0;
            if right.next != NO_NODE {
                nodes[right.next as usize].prev = left;
            }
            nodes[left as usize] =
                Node { symbol: product, len: node.len + right.len, next: right.next, ..node };
            // In this order, since the last candidate decides how an unused piece is taken apart.
            for left in [node.prev, left] {
                agenda.extend(self.candidate(nodes, left, splits).map(Reverse));
            }
        }
        let (mut index, mut start) = (0, 0);
        while index != NO_NODE {
            let node = nodes[index as usize];
            let end = start + node.len as usize;
            self.emit(node.symbol, &text.as_bytes()[start..end], splits, 0, emitter);
            (index, start) = (node.next, end);
        }
        Ok(())
    }

    fn split_into_symbols(&self, text: &str, nodes: &mut Vec<Node>) {
        let mut start = 0;
        let mut search = self.user_defined.as_ref().map(|matcher| matcher.search(text.as_bytes()));
        while let Some(c) = text[start..].chars().next() {
            let user_defined = search.as_mut().and_then(|search| search.len_at(start));
            let len = user_defined.unwrap_or(c.len_utf8());
            let index = nodes.len() as u32;
            nodes.push(Node {
                symbol: if user_defined.is_some() { NO_SYMBOL } else { self.merges.character(c) },
                len: len as u32,
                prev: index.wrapping_sub(1),
                next: index + 1,
            });
            start += len;
        }
    }

    /// The entry of the agenda for a node and the next one.
    fn candidate(
        &self,
        nodes: &[Node],
        left: u32,
        splits: &mut Map<TokenId, (Symbol, Symbol)>,
    ) -> Option<u64> {
        let node = nodes.get(left as usize)?;
        let right = nodes.get(node.next as usize)?;
        let product = self.merges.pair(node.symbol, right.symbol)?;
        if self.has_unused {
            splits.insert(product, (node.symbol, right.symbol));
        }
        Some(u64::from(self.merges.rank(product)) << 32 | u64::from(left))
    }

    fn emit(
        &self,
        symbol: Symbol,
        text: &[u8],
        splits: &Map<TokenId, (Symbol, Symbol)>,
        depth: usize,
        emitter: &mut Emitter<'_>,
    ) {
        let vocabulary = emitter.vocabulary;
        let id = if symbol == NO_SYMBOL {
            // A user-defined symbol, or a character that no piece holds.
            std::str::from_utf8(text).ok().and_then(|text| vocabulary.mergeable_id(text))
        } else {
            Some(symbol)
        };
        let Some(piece) = id.and_then(|id| vocabulary.get(id)) else {
            return emitter.unknown(text);
        };
        let id = id.unwrap_or_default();
        if piece.kind != PieceKind::Unused || depth > MAX_RESEGMENT_DEPTH {
            return emitter.piece(id);
        }
        let Some(&(left, right)) = splits.get(&id) else {
            return emitter.unknown(text);
        };
        let left_len = match vocabulary.get(left) {
            Some(piece) => piece.text.len(),
            None => self.merges.stranger(left).map_or(0, char::len_utf8),
        };
        let (left_text, right_text) = text.split_at(left_len);
        self.emit(left, left_text, splits, depth + 1, emitter);
        self.emit(right, right_text, splits, depth + 1, emitter);
    }
}
