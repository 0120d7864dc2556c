//! Text split at added tokens as transformers' SentencePiece-backed class does it
//! (`PreTrainedTokenizer.tokenize` and `Trie.split`, transformers 4.57.6).
//!
//! `Trie.split` takes the leftmost longest token, except where it errs: while it looks whether a token
//! that ends here has a longer rival, it also takes up rivals that begin earlier and have just failed,
//! and goes on with them from the next character, as if the one that they failed at had fitted.
//!
//! **When it does not err.** A rival begins earlier and is alive, or has just failed, only if the token
//! that ends here lies within the rival's content, not at its beginning, and ends before the rival does.
//! If no token lies so within another, the search is leftmost-longest: a match that begins earlier would
//! have been complete before, or it would be such a rival; and from the place where the match begins the
//! search goes on to the longest. ∎ Else the search is done by the letter ([`letter`](super::letter)).

use std::ops::Range;
use std::sync::Arc;

use super::letter::LetterTrie;
use super::matcher::{Matcher, TOO_MANY};
use super::AddedTokens;
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::{Error, Result};

/// Splits text at added tokens.
#[derive(Debug)]
pub(crate) struct Splitter {
    tokens: Arc<AddedTokens>,
    finder: Finder,
    /// Whether some token takes whitespace or has to be a single word.
    has_conditions: bool,
    /// Whether some token holds `▁`.
    has_space_symbol: bool,
    longest: usize,
}

#[derive(Debug)]
enum Finder {
    Nothing,
    LeftmostLongest(Matcher),
    ByTheLetter(LetterTrie),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text to be encoded: its ranges, of which there are several where text between was taken away.
    Text(Vec<Range<usize>>),
    /// An added token, and where it is, with the whitespace that it takes.
    Token(TokenId, Range<usize>),
}

impl Splitter {
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the tokens are too many.
    pub(crate) fn new(tokens: Arc<AddedTokens>) -> Result<Self> {
        let all = tokens.tokens();
        let contents = || all.iter().map(|token| token.content.as_str());
        let matcher = Matcher::new(contents())
            .ok_or_else(|| Error::unsupported("added_tokens", format!("the added tokens are {TOO_MANY}")))?;
        let finder = if all.is_empty() {
            Finder::Nothing
        } else if contents().any(|content| has_inner_match(&matcher, all.len(), content)) {
            Finder::ByTheLetter(LetterTrie::new(contents()))
        } else {
            Finder::LeftmostLongest(matcher)
        };
        Ok(Self {
            finder,
            has_conditions: all.iter().any(|token| token.single_word || token.lstrip || token.rstrip),
            has_space_symbol: contents().any(|content| content.contains(SPACE_SYMBOL)),
            longest: contents().map(str::len).max().unwrap_or(0),
            tokens,
        })
    }

    /// Whether it matters to the tokens what stands in front of a text, or that a space is written `▁`.
    pub(crate) fn heeds_prefix(&self) -> bool {
        self.has_conditions || self.has_space_symbol
    }

    /// Hands the parts of `text` to `visit`, from left to right; no text among them is empty.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split(&self, text: &str, mut visit: impl FnMut(Part) -> Result<()>) -> Result<()> {
        let matcher = match &self.finder {
            Finder::Nothing => {
                return if text.is_empty() { Ok(()) } else { visit(text_part(0..text.len())) };
            }
            Finder::LeftmostLongest(matcher) if !self.has_conditions => matcher,
            Finder::LeftmostLongest(matcher) => {
                let mut cuts = vec![0];
                let mut from = 0;
                let mut search = matcher.search(text.as_bytes());
                while let Some((range, _)) = search.find(from) {
                    from = range.end;
                    cuts.extend([range.start, range.end]);
                }
                return self.split_at(text, cuts, &mut visit);
            }
            Finder::ByTheLetter(trie) => return self.split_at(text, trie.cuts(text), &mut visit),
        };
        let mut from = 0;
        let mut search = matcher.search(text.as_bytes());
        while let Some((range, number)) = search.find(from) {
            if from < range.start {
                visit(text_part(from..range.start))?;
            }
            from = range.end;
            visit(Part::Token(self.tokens.tokens()[number as usize].id, range))?;
        }
        if from < text.len() {
            visit(text_part(from..text.len()))?;
        }
        Ok(())
    }

    /// Splits `text` at `cuts` and lets tokens take whitespace or give themselves up.
    fn split_at(
        &self,
        text: &str,
        cuts: Vec<usize>,
        visit: &mut impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        let mut parts: Vec<Vec<Range<usize>>> = Vec::with_capacity(cuts.len());
        let mut start = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            // A cut further back is one of the errors that this code keeps; it is passed over.
            if start < cut {
                parts.push(text_ranges(start..cut));
                start = cut;
            }
        }
        let mut matches: Vec<Option<Range<usize>>> = vec![None; parts.len()];
        for index in 0..parts.len() {
            let Some(token) = self.token(text, &parts[index]) else { continue };
            let whole = parts[index].clone();
            let mut extent = bounds(&whole);
            // Both neighbours count as they were before this token took anything from them.
            let left = index.checked_sub(1).map(|left| parts[left].clone()).filter(|part| !part.is_empty());
            let right = parts.get(index + 1).cloned().filter(|part| !part.is_empty());
            if let Some(right) = right.clone().filter(|_| token.rstrip) {
                let trimmed = trim_start(text, right);
                extent.end = trimmed.first().map_or(bounds(&parts[index + 1]).end, |range| range.start);
                parts[index + 1] = trimmed;
            }
            if let Some(left) = left.clone().filter(|_| token.lstrip) {
                let trimmed = trim_end(text, left);
                extent.start = trimmed.last().map_or(bounds(&parts[index - 1]).start, |range| range.end);
                parts[index - 1] = trimmed;
            }
            let ends_in_space =
                |part: &[Range<usize>]| part.last().is_some_and(|r| text[r.clone()].ends_with(' '));
            let begins_with_space =
                |part: &[Range<usize>]| part.first().is_some_and(|r| text[r.clone()].starts_with(' '));
            if token.single_word && left.is_some_and(|left| !ends_in_space(&left)) {
                parts[index - 1].extend(whole);
                parts[index].clear();
            } else if token.single_word && right.is_some_and(|right| !begins_with_space(&right)) {
                let next = std::mem::take(&mut parts[index + 1]);
                parts[index + 1] = whole.into_iter().chain(next).collect();
                parts[index].clear();
            } else {
                matches[index] = Some(extent);
            }
        }
        for (part, extent) in parts.into_iter().zip(matches) {
            if part.is_empty() {
                continue;
            }
            match self.token(text, &part) {
                Some(token) => visit(Part::Token(token.id, extent.unwrap_or_else(|| bounds(&part))))?,
                None => visit(Part::Text(join_adjacent(part)))?,
            }
        }
        Ok(())
    }

    /// The token that a part is.
    fn token(&self, text: &str, part: &[Range<usize>]) -> Option<&super::AddedToken> {
        let len: usize = part.iter().map(Range::len).sum();
        if len == 0 || len > self.longest {
            return None;
        }
        match part {
            [range] => self.tokens.by_content(&text[range.clone()]),
            ranges => {
                let joined: String = ranges.iter().map(|range| &text[range.clone()]).collect();
                self.tokens.by_content(&joined)
            }
        }
    }
}

fn text_part(range: Range<usize>) -> Part {
    Part::Text(text_ranges(range))
}

fn text_ranges(range: Range<usize>) -> Vec<Range<usize>> {
    std::iter::once(range).collect()
}

/// From where a part begins to where it ends; it must not be empty.
fn bounds(part: &[Range<usize>]) -> Range<usize> {
    part.first().map_or(0, |range| range.start)..part.last().map_or(0, |range| range.end)
}

fn join_adjacent(part: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(part.len());
    for range in part {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// Whether Python's `str.strip` takes the character away: Unicode's whitespace, and four controls that
/// Unicode counts as separators of paragraphs and segments.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

fn trim_start(text: &str, mut part: Vec<Range<usize>>) -> Vec<Range<usize>> {
    while let Some(first) = part.first_mut() {
        first.start = first.end - text[first.clone()].trim_start_matches(is_python_space).len();
        if first.start < first.end {
            break;
        }
        part.remove(0);
    }
    part
}

fn trim_end(text: &str, mut part: Vec<Range<usize>>) -> Vec<Range<usize>> {
    while let Some(last) = part.last_mut() {
        last.end = last.start + text[last.clone()].trim_end_matches(is_python_space).len();
        if last.start < last.end {
            break;
        }
        part.pop();
    }
    part
}

/// Whether a token lies within `content`, neither at its beginning nor at its end. The matcher gives the
/// longest token at a place only; where that one ends with `content`, the shorter ones are asked for.
fn has_inner_match(matcher: &Matcher, count: usize, content: &str) -> bool {
    // One token alone lies in no other; most lists of tokens hold no token in another.
    if count < 2 {
        return false;
    }
    let bytes = content.as_bytes();
    // Without its last byte no match can end with it.
    let inner = &bytes[..bytes.len() - 1];
    matcher.search(inner).find(1).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::AddedToken;

    fn token(id: TokenId, content: &str) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: false,
        }
    }

    /// The parts of `text`: what is encoded as text, and the contents of tokens in brackets.
    fn parts(tokens: Vec<AddedToken>, text: &str) -> Vec<String> {
        let splitter = Splitter::new(Arc::new(AddedTokens::new(tokens))).unwrap();
        let mut parts = Vec::new();
        splitter
            .split(text, |part| {
                parts.push(match part {
                    Part::Text(ranges) => ranges.into_iter().map(|range| &text[range]).collect(),
                    Part::Token(id, range) => format!("[{id}:{}]", &text[range]),
                });
                Ok(())
            })
            .unwrap();
        parts
    }

    #[test]
    fn the_longest_token_wins() {
        let tokens = || vec![token(1, "<a>"), token(2, "<a>b"), token(3, "x")];
        assert_eq!(parts(tokens(), "q<a>bx<a><a"), ["q", "[2:<a>b]", "[3:x]", "[1:<a>]", "<a"]);
        assert_eq!(parts(tokens(), ""), [] as [&str; 0]);
    }

    #[test]
    fn the_search_errs_as_it_does_there() {
        // While "b" ends, "abX" has just failed at "c", and is taken up again behind it.
        assert_eq!(parts(vec![token(1, "abX"), token(2, "b")], "abcX!"), ["abcX", "!"]);
        // Where the rival does not go on, the token is found.
        assert_eq!(parts(vec![token(1, "abX"), token(2, "b")], "abc!"), ["a", "[2:b]", "c!"]);
    }

    #[test]
    fn tokens_take_whitespace() {
        let strips = AddedToken { lstrip: true, rstrip: true, ..token(1, "<a>") };
        assert_eq!(
            parts(vec![strips.clone()], "x \u{1c}<a>\u{3000}\n y"),
            ["x", "[1: \u{1c}<a>\u{3000}\n ]", "y"]
        );
        assert_eq!(parts(vec![strips], " <a> "), ["[1: <a> ]"]);
    }

    #[test]
    fn single_words_want_spaces_around() {
        let word = AddedToken { single_word: true, ..token(1, "foo") };
        assert_eq!(parts(vec![word.clone()], "a foo b"), ["a ", "[1:foo]", " b"]);
        assert_eq!(parts(vec![word.clone()], "a\tfoo b"), ["a\tfoo", " b"]);
        assert_eq!(parts(vec![word.clone()], "foo.b"), ["foo.b"]);
        // Glued to a token, it makes that one text.
        assert_eq!(parts(vec![word, token(2, "<s>")], "<s>foo"), ["<s>foo"]);
    }

    proptest! {
        #[test]
        fn by_the_letter_is_leftmost_longest_where_no_token_lies_within_another(
            contents in prop::collection::hash_set("<[abé]{1,3}>?", 1..8),
            text in "[<>abé]{0,40}",
        ) {
            let contents: Vec<String> = contents.into_iter().collect();
            let all = || contents.iter().map(String::as_str);
            let matcher = Matcher::new(all()).unwrap();
            prop_assert!(!contents.iter().any(|content| has_inner_match(&matcher, contents.len(), content)));
            let mut expected = vec![0];
            let mut from = 0;
            while let Some((range, _)) = matcher.find(text.as_bytes(), from) {
                from = range.end;
                expected.extend([range.start, range.end]);
            }
            prop_assert_eq!(LetterTrie::new(all()).cuts(&text), expected);
        }
    }
}
