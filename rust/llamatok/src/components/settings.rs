//! The sections `truncation` and `padding`.

use crate::TokenId;

/// A side of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The beginning.
    Left,
    /// The end.
    Right,
}

/// Which sequence of a pair is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruncationStrategy {
    /// The longer one, token by token.
    LongestFirst,
    /// The first one.
    OnlyFirst,
    /// The second one.
    OnlySecond,
}

/// The section `truncation`: how long sequences are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// The side that tokens are removed from.
    pub direction: Side,
    /// The most tokens, those of the template included.
    pub max_length: usize,
    /// Which sequence of a pair is cut.
    pub strategy: TruncationStrategy,
    /// How many tokens a part that overflows shares with the one before.
    pub stride: usize,
}

/// The length that sequences are filled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingStrategy {
    /// That of the longest sequence of the batch.
    BatchLongest,
    /// A fixed one.
    Fixed(usize),
}

/// The section `padding`: how short sequences are filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Padding {
    /// The length.
    pub strategy: PaddingStrategy,
    /// The side that tokens are added to.
    pub direction: Side,
    /// The length is rounded up to a multiple of this.
    pub pad_to_multiple_of: Option<usize>,
    /// The id of the padding token.
    pub pad_id: TokenId,
    /// The type id of the padding token.
    pub pad_type_id: u32,
    /// The text of the padding token.
    pub pad_token: String,
}
