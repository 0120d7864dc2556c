//! Added tokens: strings that text is searched for before it is normalized and merged.

use crate::TokenId;

/// A token of the section `added_tokens` of a `tokenizer.json`, or one that was added later; the
/// meaning of the flags is that of `AddedToken` of the HF tokenizers library (0.23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// The id.
    pub id: TokenId,
    /// The text that is searched for; never empty.
    pub content: String,
    /// Found only where neither neighbour is a word character.
    pub single_word: bool,
    /// A match takes the whitespace in front of it.
    pub lstrip: bool,
    /// A match takes the whitespace behind it.
    pub rstrip: bool,
    /// Searched for in normalized text, with its own text normalized too, instead of in raw text.
    pub normalized: bool,
    /// Left out by decoding with `skip_special_tokens`, and not searched for by encoding with
    /// `split_special_tokens`.
    pub special: bool,
}
