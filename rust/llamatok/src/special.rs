//! Text split at control and unknown pieces, for callers that ask for it.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::model::Model;
use crate::vocabulary::{PieceKind, TokenId};
use crate::{Error, Result};

/// Finds the texts of control and unknown pieces; of those that begin at the same place, the longest.
#[derive(Debug)]
pub(crate) struct SpecialMatcher {
    automaton: AhoCorasick,
    ids: Vec<TokenId>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a [u8]),
    Special(TokenId),
}

impl SpecialMatcher {
    pub(crate) fn new(model: &Model) -> Result<Self> {
        let (ids, texts): (Vec<TokenId>, Vec<&str>) = (0..)
            .zip(model.vocabulary.pieces())
            .filter(|(_, piece)| matches!(piece.kind, PieceKind::Control | PieceKind::Unknown))
            .map(|(id, piece)| (id, piece.text.as_str()))
            .unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|e| Error::model_format("pieces", format!("the control pieces are too large: {e}")))?;
        Ok(Self { automaton, ids })
    }

    /// The parts of `text`, from left to right; no part is empty.
    pub(crate) fn split<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
        let mut start = 0;
        let mut matches = self.automaton.find_iter(text);
        let mut special = None;
        std::iter::from_fn(move || loop {
            if let Some(id) = special.take() {
                return Some(Part::Special(id));
            }
            if start == text.len() {
                return None;
            }
            let end = match matches.next() {
                Some(found) => {
                    special = self.ids.get(found.pattern().as_usize()).copied();
                    let end = found.start();
                    let before = start..end;
                    start = found.end();
                    before
                }
                None => std::mem::replace(&mut start, text.len())..text.len(),
            };
            if !end.is_empty() {
                return Some(Part::Text(&text[end]));
            }
        })
    }
}
