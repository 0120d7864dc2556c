//! Which characters of a text its tokens stand for, found by walking along the two.

use std::collections::HashSet;
use std::ops::Range;

use super::columns::Details;
use crate::components::BpeModel;
use crate::normalize::{AlignedBytes, Normalizer};
use crate::vocabulary::{PieceKind, TokenId, SPACE_SYMBOL};
use crate::Tokenizer;

/// A normalized chunk, and the range in the original text of each of its characters.
pub(super) struct Aligned {
    text: String,
    spans: Vec<[i32; 2]>,
}

impl Aligned {
    /// Normalizes `chunk`, of whose characters `chars` tells the places; `prefix` says that `▁` stands in front
    /// of it, and `dummy_prefix` that it is the normalizer that puts it there.
    pub(super) fn new(
        normalizer: &Normalizer,
        chunk: &str,
        chars: &[(i32, char)],
        dummy_prefix: bool,
        prefix: bool,
    ) -> Self {
        let mut aligned = Self { text: String::with_capacity(chunk.len() + 3), spans: Vec::new() };
        if normalizer.is_identity() {
            if prefix {
                let first = chars.first().map_or([0, 1], |&(index, _)| [index, index + 1]);
                aligned.push('▁', first);
            }
            for &(index, c) in chars {
                aligned.push(if c == ' ' { '▁' } else { c }, [index, index + 1]);
            }
            return aligned;
        }
        let origin = |bytes: Range<usize>| {
            let first = chunk[..bytes.start].chars().count();
            let count = chunk[bytes].chars().count().max(1);
            let start = chars.get(first).map_or(0, |&(index, _)| index);
            let end = chars.get(first + count - 1).map_or(start, |&(index, _)| index + 1);
            [start, end]
        };
        let text = if prefix && !dummy_prefix { [SPACE_SYMBOL, chunk].concat() } else { chunk.to_owned() };
        let shift = text.len() - chunk.len();
        let mut normalized = AlignedBytes::default();
        normalizer.normalize(text.as_bytes(), dummy_prefix, SPACE_SYMBOL, &mut normalized);
        for (index, c) in String::from_utf8_lossy(&normalized.text).char_indices() {
            let bytes = normalized.origins.get(index).cloned().unwrap_or_default();
            aligned.push(c, origin(bytes.start.saturating_sub(shift)..bytes.end.saturating_sub(shift)));
        }
        aligned
    }

    fn push(&mut self, c: char, span: [i32; 2]) {
        self.text.push(c);
        self.spans.push(span);
    }
}

/// How much text each id stands for.
#[derive(Debug)]
pub(super) struct Units {
    units: Vec<Unit>,
    pieces: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many characters.
    Chars(u32),
    /// One byte of a character.
    Byte,
    /// Characters that the vocabulary does not have.
    Unknown,
}

impl Units {
    /// The pieces of a SentencePiece model.
    pub(super) fn of_tokenizer(tokenizer: &Tokenizer) -> Self {
        let pieces = tokenizer.model().vocabulary.pieces();
        let unit = |piece: &crate::Piece| match piece.kind {
            PieceKind::Byte => Unit::Byte,
            PieceKind::Unknown | PieceKind::Control => Unit::Unknown,
            _ => Unit::Chars(piece.text.chars().count() as u32),
        };
        Self {
            units: pieces.iter().map(unit).collect(),
            pieces: pieces.iter().map(|piece| piece.text.as_str().into()).collect(),
        }
    }

    /// The tokens of a `tokenizer.json`, if unknown characters always become bytes, and `▁`, of which the
    /// original text may have a space or nothing, never does.
    pub(super) fn of_model(model: &BpeModel) -> Option<Self> {
        let bytes = model.byte_ids()?;
        model.token_to_id(SPACE_SYMBOL)?;
        let is_byte: HashSet<TokenId> = bytes.iter().copied().collect();
        let joins_bytes = |(left, right, _): &_| is_byte.contains(left) || is_byte.contains(right);
        if model.merges.iter().any(joins_bytes) {
            // A token may then be several bytes, of characters that its spelling does not count.
            return None;
        }
        let mut units = vec![Unit::Unknown; model.id_limit()];
        for (token, id) in model.iter() {
            units[id as usize] = Unit::Chars(token.chars().count() as u32);
        }
        for &id in bytes.iter() {
            units[id as usize] = Unit::Byte;
        }
        Some(Self { units, pieces: Vec::new() })
    }

    fn unit(&self, id: TokenId) -> Unit {
        self.units.get(id as usize).copied().unwrap_or(Unit::Unknown)
    }

    /// Appends the range of each of `ids`, which are those of `chunk`, with `▁` in front of it if `prefix`
    /// says so; spaces, but nothing else, may have been replaced, one by one. The chunk's first character
    /// is number `first` of the text. The prefix has the range of that one. Only where no id stands for an
    /// unknown character, and none for a byte of `▁`, which the chunk has as one byte or not at all.
    pub(super) fn push_plain_spans(
        &self,
        ids: &[TokenId],
        chunk: &str,
        first: i32,
        prefix: bool,
        spans: &mut Vec<[i32; 2]>,
    ) {
        let shift = i32::from(prefix);
        let span =
            |start: i32, end: i32| [first + (start - shift).max(0), first + (end - shift).max(1.min(end))];
        let is_ascii = chunk.is_ascii();
        let mut chars = chunk.chars();
        let mut read = shift;
        let mut place = 0;
        // How many more byte tokens the character at `place` has.
        let mut bytes_left = 0;
        spans.reserve(ids.len());
        for &id in ids {
            match self.unit(id) {
                Unit::Chars(count) => {
                    spans.push(span(place, place + count as i32));
                    place += count as i32;
                }
                _ => {
                    spans.push(span(place, place + 1));
                    if bytes_left == 0 {
                        if !is_ascii && place > read {
                            chars.by_ref().nth((place - read - 1) as usize);
                            read = place;
                        }
                        bytes_left = if is_ascii { 1 } else { chars.next().map_or(1, char::len_utf8) };
                        read += i32::from(!is_ascii);
                    }
                    bytes_left -= 1;
                    place += i32::from(bytes_left == 0);
                }
            }
        }
    }

    /// Appends the range of each of `ids`, which are those of `aligned`.
    pub(super) fn push_spans(&self, ids: &[TokenId], aligned: &Aligned, details: &mut Details) {
        let last = aligned.spans.len().saturating_sub(1);
        let span = |first: usize, count: usize| match aligned.spans.get(first) {
            Some(begin) => [begin[0], aligned.spans[(first + count.max(1) - 1).min(last)][1]],
            None => [0, 0],
        };
        let mut chars = aligned.text.char_indices().enumerate().peekable();
        let mut index = 0;
        while index < ids.len() {
            let Some(&(first, (byte, c))) = chars.peek() else {
                details.spans.push([0, 0]);
                index += 1;
                continue;
            };
            match self.unit(ids[index]) {
                Unit::Chars(count) => {
                    details.spans.push(span(first, count as usize));
                    for _ in 0..count {
                        chars.next();
                    }
                    index += 1;
                }
                Unit::Byte => {
                    let range = span(first, 1);
                    for _ in 0..c.len_utf8().min(ids.len() - index) {
                        details.spans.push(range);
                        index += 1;
                    }
                    chars.next();
                }
                Unit::Unknown => {
                    // One id stands for a run of characters, up to the next piece.
                    let next = ids.get(index + 1).and_then(|&id| self.pieces.get(id as usize));
                    let begins_next = |rest: &str| next.is_some_and(|piece| rest.starts_with(&**piece));
                    let mut count = 1;
                    chars.next();
                    let mut rest = &aligned.text[byte + c.len_utf8()..];
                    while let Some(c) = rest.chars().next().filter(|_| !begins_next(rest)) {
                        rest = &rest[c.len_utf8()..];
                        chars.next();
                        count += 1;
                    }
                    details.spans.push(span(first, count));
                    index += 1;
                }
            }
        }
    }
}
