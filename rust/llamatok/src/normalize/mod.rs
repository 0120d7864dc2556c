//! Text before merging: SentencePiece's normalizer (`Normalizer::Normalize`, sentencepiece 0.2.3).

pub(crate) mod charsmap;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::added_tokens::matcher::{Match, Matcher, Search, TOO_MANY};
use crate::model::{Model, NormalizerSettings};
use crate::vocabulary::{PieceKind, SPACE_SYMBOL};
use crate::{Error, Result};
use charsmap::CharsMap;

/// Finds user-defined symbols: the longest one at a position.
#[derive(Debug, Clone)]
pub(crate) struct UserDefinedMatcher(Arc<Matcher>);

impl UserDefinedMatcher {
    /// A matcher of the user-defined pieces of the model; `None` where it has none.
    pub(crate) fn new(model: &Model) -> Result<Option<Self>> {
        let symbols: Vec<&str> = model
            .vocabulary
            .pieces()
            .iter()
            .filter(|piece| piece.kind == PieceKind::UserDefined)
            .map(|piece| piece.text.as_str())
            .collect();
        if symbols.is_empty() {
            return Ok(None);
        }
        match Matcher::new(symbols) {
            Some(matcher) => Ok(Some(Self(Arc::new(matcher)))),
            None => Err(Error::model_format("pieces", format!("the user-defined symbols are {TOO_MANY}"))),
        }
    }

    /// A look through `text`.
    pub(crate) fn search<'a>(&'a self, text: &'a [u8]) -> SymbolSearch<'a> {
        SymbolSearch { search: self.0.search(text), next: None, is_done: false }
    }
}

/// A look through one text for user-defined symbols, from left to right: in time that does not depend on the
/// symbols, where one look at each place would read as many bytes as they have.
#[derive(Debug)]
pub(crate) struct SymbolSearch<'a> {
    search: Search<'a>,
    next: Option<Match>,
    is_done: bool,
}

impl SymbolSearch<'_> {
    /// The first symbol that begins at `from` or later (of those that begin there, the longest), as a range of
    /// bytes. `from` must not fall from call to call.
    pub(crate) fn find(&mut self, from: usize) -> Option<Range<usize>> {
        if !self.is_done && self.next.as_ref().is_none_or(|(range, _)| range.start < from) {
            self.next = self.search.find(from);
            self.is_done = self.next.is_none();
        }
        self.next.as_ref().map(|(range, _)| range.clone())
    }

    /// The length of the longest symbol that begins at `place`, which must not fall from call to call.
    pub(crate) fn len_at(&mut self, place: usize) -> Option<usize> {
        self.find(place).filter(|range| range.start == place).map(|range| range.len())
    }
}

/// Takes normalized text.
pub(crate) trait Sink {
    /// Appends `text`, made of the bytes `origin` of the input.
    fn append(&mut self, text: &[u8], origin: Range<usize>);
    /// The text so far.
    fn text(&self) -> &[u8];
    /// Keeps the first `len` bytes.
    fn shorten(&mut self, len: usize);
}

impl Sink for Vec<u8> {
    fn append(&mut self, text: &[u8], _: Range<usize>) {
        self.extend_from_slice(text);
    }

    fn text(&self) -> &[u8] {
        self
    }

    fn shorten(&mut self, len: usize) {
        self.truncate(len);
    }
}

/// Normalized text, and for each byte of it the bytes of the input that it was made of.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    pub(crate) text: Vec<u8>,
    pub(crate) origins: Vec<Range<usize>>,
}

impl Sink for AlignedBytes {
    fn append(&mut self, text: &[u8], origin: Range<usize>) {
        self.text.extend_from_slice(text);
        self.origins.resize(self.text.len(), origin);
    }

    fn text(&self) -> &[u8] {
        &self.text
    }

    fn shorten(&mut self, len: usize) {
        self.text.truncate(len);
        self.origins.truncate(len);
    }
}

/// A normalizer, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Normalizer {
    settings: NormalizerSettings,
    charsmap: Option<CharsMap>,
    user_defined: Option<UserDefinedMatcher>,
}

impl Normalizer {
    pub(crate) fn new(model: &Model, user_defined: Option<UserDefinedMatcher>) -> Result<Self> {
        let settings = model.normalizer.clone();
        let charsmap = match settings.precompiled_charsmap.as_slice() {
            [] => None,
            blob => Some(CharsMap::new(blob, "normalizer_spec.precompiled_charsmap")?),
        };
        Ok(Self { settings, charsmap, user_defined })
    }

    pub(crate) fn settings(&self) -> &NormalizerSettings {
        &self.settings
    }

    /// Whether normalizing changes nothing but spaces into `▁` and the dummy prefix.
    pub(crate) fn is_identity(&self) -> bool {
        self.charsmap.is_none()
            && !self.settings.remove_extra_whitespaces
            && !self.settings.treat_whitespace_as_suffix
            && self.settings.escape_whitespaces
    }

    /// Appends the normalized `input` to `out`, with or without the dummy prefix that the settings
    /// ask for. A byte that begins no valid UTF-8 becomes U+FFFD, which the character map does not get
    /// to see. A space is written as `space`: SentencePiece's `▁`, or `" "` for a reader that takes
    /// the two for the same.
    pub(crate) fn normalize(&self, input: &[u8], dummy_prefix: bool, space: &str, out: &mut impl Sink) {
        let start = out.text().len();
        let settings = &self.settings;
        let space = if settings.escape_whitespaces { space } else { " " };
        let dummy_prefix = dummy_prefix && settings.add_dummy_prefix;
        let mut rest = input;
        let mut symbols = self.user_defined.as_ref().map(|matcher| matcher.search(input));
        let mut normalize_prefix = |rest| {
            let place = input.len() - <[u8]>::len(rest);
            self.normalize_prefix(rest, symbols.as_mut().and_then(|symbols| symbols.len_at(place)))
        };
        if settings.remove_extra_whitespaces {
            while !rest.is_empty() {
                let (text, len) = normalize_prefix(rest);
                if text != b" " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        if rest.is_empty() {
            return;
        }
        if dummy_prefix && !settings.treat_whitespace_as_suffix {
            // It counts as part of the first character.
            let (_, len) = normalize_prefix(rest);
            let begin = input.len() - rest.len();
            out.append(space.as_bytes(), begin..begin + len);
        }
        let mut after_space = settings.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (mut text, len) = normalize_prefix(rest);
            let begin = input.len() - rest.len();
            let origin = begin..begin + len;
            if after_space {
                while let [b' ', tail @ ..] = text {
                    text = tail;
                }
            }
            if !text.is_empty() {
                for byte in text {
                    if *byte == b' ' {
                        out.append(space.as_bytes(), origin.clone());
                    } else {
                        out.append(std::slice::from_ref(byte), origin.clone());
                    }
                }
                after_space = settings.remove_extra_whitespaces && text.ends_with(b" ");
            }
            rest = &rest[len..];
        }
        if settings.remove_extra_whitespaces {
            // A literal `▁` counts as a space here, since SentencePiece strips what it has written.
            let strip = |text: &[u8]| {
                let shorter = text.strip_suffix(space.as_bytes()).or_else(|| {
                    text.strip_suffix(SPACE_SYMBOL.as_bytes()).filter(|_| settings.escape_whitespaces)
                });
                shorter.map(<[u8]>::len)
            };
            while let Some(len) = strip(&out.text()[start..]) {
                out.shorten(start + len);
            }
        }
        if dummy_prefix && settings.treat_whitespace_as_suffix {
            out.append(space.as_bytes(), input.len()..input.len());
        }
    }

    /// What the beginning of `text`, a user-defined symbol of `symbol` bytes if there is one, becomes, and how
    /// many bytes of `text` that takes.
    fn normalize_prefix<'a>(&'a self, text: &'a [u8], symbol: Option<usize>) -> (&'a [u8], usize) {
        if let Some(len) = symbol {
            return (&text[..len], len);
        }
        if let Some((len, replacement)) = self.charsmap.as_ref().and_then(|m| m.longest_match(text)) {
            return (replacement.as_bytes(), len);
        }
        match text[..text.len().min(4)].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
            Some(c) => (&text[..c.len_utf8()], c.len_utf8()),
            None => ("\u{FFFD}".as_bytes(), text.len().min(1)),
        }
    }
}

/// `text` as valid UTF-8: each byte that begins no valid sequence becomes U+FFFD.
pub(crate) fn to_valid_utf8(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = simdutf8::basic::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut valid = String::with_capacity(text.len() + 16);
    for chunk in text.utf8_chunks() {
        valid.push_str(chunk.valid());
        valid.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    Cow::Owned(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invalid_byte_is_replaced() {
        assert_eq!(to_valid_utf8(b"a\xF0\x9F\xA6"), "a\u{FFFD}\u{FFFD}\u{FFFD}");
        assert_eq!(to_valid_utf8(b"\xE2\x82\xAC\xFF"), "€\u{FFFD}");
        assert_eq!(to_valid_utf8(b"\xED\xA0\x80\xC0\x80"), "\u{FFFD}".repeat(5));
    }
}
