//! How tokens become text.

use super::{Metaspace, Pattern};

/// A decoder: the section `decoder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoder {
    /// `Replace`: in each token, each match of the pattern becomes the content.
    Replace {
        /// What is searched for.
        pattern: Pattern,
        /// What takes its place.
        content: String,
    },
    /// `ByteFallback`: runs of byte tokens (`<0x0A>`) become characters.
    ByteFallback,
    /// `Fuse`: all tokens become one.
    Fuse,
    /// `Strip`: removes a character from both ends of each token.
    Strip {
        /// The character.
        content: char,
        /// How many are removed at the beginning, at most.
        start: usize,
        /// How many are removed at the end, at most.
        stop: usize,
    },
    /// `Metaspace`.
    Metaspace(Metaspace),
    /// `Sequence`: one after the other.
    Sequence(Vec<Decoder>),
}
