//! Ragged results.

use crate::vocabulary::TokenId;

/// The ids of several texts: `ids[offsets[i]..offsets[i + 1]]` are those of text `i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// The ids of all texts, one text after the other.
    pub ids: Vec<TokenId>,
    /// Where each text begins, and at last where the last one ends: one more than there are texts.
    pub offsets: Vec<i64>,
}

/// The bytes of several texts: `bytes[offsets[i]..offsets[i + 1]]` are those of text `i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextBatch {
    /// All texts, one after the other.
    pub bytes: Vec<u8>,
    /// Where each text begins, and at last where the last one ends: one more than there are texts.
    pub offsets: Vec<i64>,
}
