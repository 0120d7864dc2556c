//! Symbols and the pairs of them that merge.
//!
//! SentencePiece merges strings: two neighbours merge when their concatenation is a normal,
//! user-defined or unused piece. Since every symbol that can merge is a character or the product of
//! a merge, it is enough to know, for pairs of such symbols, the piece that they give.

use super::Map;
use crate::vocabulary::{TokenId, Vocabulary};

/// A character or a piece that takes part in merging. Below the vocabulary's size it is the id of a
/// mergeable piece; from there on, a character that occurs in pieces without being one itself.
pub(crate) type Symbol = u32;

/// The symbol of characters that occur in no mergeable piece: nothing merges with it.
pub(crate) const NO_SYMBOL: Symbol = Symbol::MAX;

/// The merges of a vocabulary.
#[derive(Debug)]
pub(crate) struct Merges {
    characters: Map<char, Symbol>,
    /// The characters of the symbols beyond the vocabulary.
    strangers: Vec<char>,
    pairs: Map<(Symbol, Symbol), TokenId>,
    /// For each id, the place of its score among all scores, the highest first; equal scores share one.
    ranks: Vec<u32>,
}

impl Merges {
    /// All merges of the vocabulary: for each mergeable piece, each way to split it in two symbols.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let size = vocabulary.len() as Symbol;
        let mut characters: Map<char, Symbol> = Map::default();
        let mut strangers = Vec::new();
        let mut by_text: Map<&str, Symbol> = Map::default();
        let mergeable = || (0..size).zip(vocabulary.pieces()).filter(|(_, piece)| piece.kind.is_mergeable());
        for (id, piece) in mergeable() {
            by_text.insert(&piece.text, id);
            let mut chars = piece.text.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                characters.insert(c, id);
            }
        }
        for (_, piece) in mergeable() {
            for (start, c) in piece.text.char_indices() {
                characters.entry(c).or_insert_with(|| {
                    strangers.push(c);
                    let symbol = size + strangers.len() as Symbol - 1;
                    by_text.insert(&piece.text[start..start + c.len_utf8()], symbol);
                    symbol
                });
            }
        }
        let mut pairs = Map::default();
        for (id, piece) in mergeable() {
            for (split, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(split);
                if let (Some(&left), Some(&right)) = (by_text.get(left), by_text.get(right)) {
                    pairs.insert((left, right), id);
                }
            }
        }
        Self { characters, strangers, pairs, ranks: ranks(vocabulary) }
    }

    /// The symbol of a character.
    pub(crate) fn character(&self, c: char) -> Symbol {
        self.characters.get(&c).copied().unwrap_or(NO_SYMBOL)
    }

    /// The character of a symbol that is no piece.
    pub(crate) fn stranger(&self, symbol: Symbol) -> Option<char> {
        let index = (symbol as usize).checked_sub(self.ranks.len())?;
        self.strangers.get(index).copied()
    }

    /// The piece that two neighbouring symbols merge into.
    pub(crate) fn pair(&self, left: Symbol, right: Symbol) -> Option<TokenId> {
        self.pairs.get(&(left, right)).copied()
    }

    /// The rank of a piece: the lower, the earlier it is merged.
    pub(crate) fn rank(&self, id: TokenId) -> u32 {
        self.ranks[id as usize]
    }
}

/// For each id, the place of its score among the distinct scores, the highest first. The order is
/// that of SentencePiece's agenda, which tells `0.0` from `-0.0`.
pub(crate) fn ranks(vocabulary: &Vocabulary) -> Vec<u32> {
    let score = |&id: &TokenId| vocabulary.pieces()[id as usize].score;
    let mut order: Vec<TokenId> = (0..vocabulary.len() as TokenId).collect();
    order.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; order.len()];
    let mut rank = 0;
    for (index, id) in order.iter().enumerate() {
        if index > 0 && score(&order[index - 1]).total_cmp(&score(id)).is_ne() {
            rank += 1;
        }
        ranks[*id as usize] = rank;
    }
    ranks
}
