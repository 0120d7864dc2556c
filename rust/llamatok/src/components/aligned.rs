//! Text that remembers which part of the original each of its bytes comes from.
//!
//! This is `NormalizedString` of the HF tokenizers library (0.23.2), with its rules for ranges to the letter,
//! odd ones included, since offsets of tokens are made of them. Ranges are kept relative to the whole
//! original text, and a part remembers where it begins.

use std::ops::Range;

use crate::{Error, Result};

/// A part of a text, normalized, and for each of its bytes a range of bytes of the original.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlignedText {
    text: String,
    /// For each byte of `text`, the range of the original that it stands for; `None` where nobody asks.
    ranges: Option<Vec<(u32, u32)>>,
    /// The range of the original that the part covers.
    start: u32,
    end: u32,
}

/// A character of new text, and how it relates to the old text. 1: it is new; 0: it takes the place of
/// the next old character; -n: of the next old one, and the n after that are gone.
pub(crate) type Change = (char, isize);

impl AlignedText {
    /// Text as it is: a part of an original that begins at byte `start` of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the part ends beyond 4 GiB.
    pub fn new(text: &str, start: usize) -> Result<Self> {
        if u32::try_from(start + text.len()).is_err() {
            return Err(Error::unsupported("text", "offsets beyond 4 GiB"));
        }
        let mut ranges = Vec::with_capacity(text.len());
        for (index, c) in text.char_indices() {
            let first = start + index;
            let range = (first as u32, (first + c.len_utf8()) as u32);
            ranges.resize(ranges.len() + c.len_utf8(), range);
        }
        let (start, end) = (start as u32, (start + text.len()) as u32);
        Ok(Self { text: text.into(), ranges: Some(ranges), start, end })
    }

    /// Text that knows nothing of the original: all ranges are empty.
    pub(crate) fn without_ranges(text: String) -> Self {
        Self { text, ranges: None, start: 0, end: 0 }
    }

    /// The normalized text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The normalized text alone.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Where the part begins in the original, in bytes.
    pub fn original_start(&self) -> usize {
        self.start as usize
    }

    /// The range of bytes of the original that `range` of the normalized text stands for: from the
    /// beginning of what its first byte stands for to the end of what its last byte does. It is not
    /// always a sound range, and may end before it begins. `None` outside of the text.
    pub fn original_range(&self, range: Range<usize>) -> Option<(usize, usize)> {
        let ranges = self.ranges.as_deref()?;
        if range.start == range.end {
            return Some((self.start as usize + range.start, self.start as usize + range.end));
        }
        let ranges = ranges.get(range)?;
        let (first, last) = (ranges.first()?, ranges.last()?);
        Some((first.0 as usize, last.1 as usize))
    }

    /// A part of the normalized text, as a text of its own.
    ///
    /// # Panics
    /// Where `range` is not within the text, or cuts a character.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let text = self.text[range.clone()].to_owned();
        let ranges = self.ranges.as_ref().map(|ranges| ranges[range.clone()].to_vec());
        let (start, end) = self.original_range(range).unwrap_or_default();
        Self { text, ranges, start: start as u32, end: end.max(start) as u32 }
    }

    /// Puts `prefix` in front of a text that is not empty (`NormalizedString::prepend`): all of it
    /// stands for what the first byte stood for.
    pub(crate) fn prepend(&mut self, prefix: &str) {
        if self.text.is_empty() || prefix.is_empty() {
            return;
        }
        self.text.insert_str(0, prefix);
        if let Some(ranges) = &mut self.ranges {
            let first = ranges[0];
            ranges.splice(0..0, std::iter::repeat_n(first, prefix.len()));
        }
    }

    /// Each of `matches`, which are in order, not empty, and apart, becomes `content`
    /// (`NormalizedString::replace`): all of it stands for what the match's last byte stood for.
    pub(crate) fn replace(&mut self, matches: impl Iterator<Item = Range<usize>>, content: &str) {
        let mut text = String::new();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut done = 0;
        for found in matches {
            if text.is_empty() {
                text.reserve(self.text.len() + content.len());
            }
            text.push_str(&self.text[done..found.start]);
            text.push_str(content);
            if let Some(old) = &self.ranges {
                ranges.extend_from_slice(&old[done..found.start]);
                ranges.resize(ranges.len() + content.len(), old[found.end - 1]);
            }
            done = found.end;
        }
        if done == 0 {
            return;
        }
        text.push_str(&self.text[done..]);
        self.text = text;
        if let Some(old) = &mut self.ranges {
            ranges.extend_from_slice(&old[done..]);
            *old = ranges;
        }
    }

    /// Puts `changes` in the place of the whole text, but for `removed` old characters before them, which
    /// are gone (`NormalizedString::transform`).
    pub(crate) fn transform(&mut self, changes: Vec<Change>, removed: usize) {
        let Some(old_ranges) = &self.ranges else {
            self.text = changes.into_iter().map(|(c, _)| c).collect();
            return;
        };
        let Some(place) = self.whole() else { return };
        let mut old = self.text[place.clone()].chars().map(char::len_utf8);
        let mut offset = place.start + old.by_ref().take(removed).sum::<usize>();
        let mut text = String::with_capacity(self.text.len());
        let mut ranges = Vec::with_capacity(old_ranges.len());
        for (character, change) in changes {
            let range = if change > 0 {
                match offset.checked_sub(1) {
                    None => (self.start, self.start),
                    Some(before) => range_at(old_ranges, before),
                }
            } else {
                range_at(old_ranges, offset)
            };
            if change <= 0 {
                offset += old.by_ref().take(1 + change.unsigned_abs()).sum::<usize>();
            }
            ranges.resize(ranges.len() + character.len_utf8(), range);
            text.push(character);
        }
        self.text.replace_range(place.clone(), &text);
        if let Some(old) = &mut self.ranges {
            old.splice(place, ranges);
        }
    }

    /// The range of the normalized text that stands for the whole original: all of it, unless it begins
    /// with bytes that stand for nothing.
    fn whole(&self) -> Option<Range<usize>> {
        let ranges = self.ranges.as_deref().unwrap_or_default();
        if self.start == self.end {
            return Some(0..0);
        }
        let end = ranges.iter().position(|range| range.1 > self.end).unwrap_or(ranges.len());
        let start = ranges[..end].iter().position(|range| range.0 >= self.start && range.0 != range.1);
        match (start, end) {
            (None, 0) => None,
            (None, end) => Some(end..end),
            (Some(start), end) => Some(start..end),
        }
    }
}

/// The range of a byte; of the last one, where there are fewer (the library would panic).
fn range_at(ranges: &[(u32, u32)], index: usize) -> (u32, u32) {
    ranges.get(index).or(ranges.last()).copied().unwrap_or_default()
}
