//! Text split at added tokens as the HF tokenizers library does it (`AddedVocabulary`, tokenizers 0.23):
//! first at those that are sought in raw text, then at those that are sought in normalized text.

use std::ops::Range;
use std::sync::Arc;

use super::matcher::{Matcher, Search, TOO_MANY};
use super::{AddedToken, AddedTokens};
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::{Error, Result};

/// Splits text at added tokens.
#[derive(Debug)]
pub(crate) struct Splitter {
    tokens: Arc<AddedTokens>,
    raw: Automaton,
    normalized: Automaton,
    /// The latter with spaces for `▁`, unless a token takes whitespace (which `▁` is not).
    spaced: Option<Automaton>,
}

/// Some of the tokens, as they are sought.
#[derive(Debug)]
struct Automaton {
    matcher: Matcher,
    /// The number of each string's token.
    numbers: Vec<u32>,
    /// The number of the first token of which the normalizer leaves nothing: it is found between any two
    /// characters where no other token begins.
    empty: Option<u32>,
}

/// A part of a text: text in between, or a token.
pub(crate) type Part = (Range<usize>, Option<TokenId>);

impl Splitter {
    /// `normalize` is applied to the content of tokens that are sought in normalized text.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the tokens are too many.
    pub(crate) fn new(tokens: Arc<AddedTokens>, normalize: impl Fn(&str) -> String) -> Result<Self> {
        let automaton = |normalized: bool, normalize: &dyn Fn(&str) -> String| {
            let all = (0..).zip(tokens.tokens()).filter(|(_, token)| token.normalized == normalized);
            // Of tokens that become equal the first one counts, special ones before others.
            let (special, ordinary): (Vec<_>, Vec<_>) = all.partition(|(_, token)| token.special);
            let (empty, sought): (Vec<_>, Vec<_>) = special
                .into_iter()
                .chain(ordinary)
                .map(|(number, token)| (number, normalize(&token.content)))
                .partition(|(_, content)| content.is_empty());
            let (numbers, contents): (Vec<u32>, Vec<String>) = sought.into_iter().unzip();
            let empty = empty.first().map(|&(number, _)| number);
            let matcher = Matcher::new(contents.iter().map(String::as_str)).ok_or_else(|| {
                Error::unsupported("added_tokens", format!("the added tokens are {TOO_MANY}"))
            })?;
            Ok(Automaton { matcher, numbers, empty })
        };
        let takes_space = |token: &AddedToken| token.normalized && (token.lstrip || token.rstrip);
        let normalized = automaton(true, &normalize)?;
        let spaced = if normalized.empty.is_some() || tokens.tokens().iter().any(takes_space) {
            None
        } else {
            Some(automaton(true, &|content| normalize(content).replace(SPACE_SYMBOL, " "))?)
        };
        Ok(Self { raw: automaton(false, &str::to_owned)?, normalized, spaced, tokens })
    }

    /// Whether any token is sought in normalized text.
    pub(crate) fn seeks_normalized(&self) -> bool {
        !self.normalized.numbers.is_empty() || self.normalized.empty.is_some()
    }

    /// Hands the parts of raw `text` to `visit`. With `split_special`, special tokens are text.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_raw(
        &self,
        text: &str,
        split_special: bool,
        visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.split(&self.raw, text, split_special, visit)
    }

    /// Hands the parts of normalized `text` to `visit`.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_normalized(
        &self,
        text: &str,
        split_special: bool,
        visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.split(&self.normalized, text, split_special, visit)
    }

    /// As [`split_normalized`](Self::split_normalized) of `text` with `▁` for each space and, if `prefix` says
    /// so, one in front, without making that: hands each part to `visit`, and whether the one in front is
    /// part of it. Returns `false`, and does nothing, where this does not serve: where `text` holds `▁`, or a
    /// token takes whitespace or is empty once normalized.
    ///
    /// *Proof.* Without `▁` in `text` a place that holds a space there holds `▁` in what would be made, and
    /// the other way round; so it comes to the same to make both spaces, in the text and in the sought. What
    /// `single_word` asks of neighbours is no for both. ∎
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn split_spaced(
        &self,
        text: &str,
        prefix: bool,
        split_special: bool,
        mut visit: impl FnMut(Part, bool) -> Result<()>,
    ) -> Result<bool> {
        let Some(automaton) = &self.spaced else { return Ok(false) };
        if memchr::memmem::find(text.as_bytes(), SPACE_SYMBOL.as_bytes()).is_some() {
            return Ok(false);
        }
        let mut with_prefix = prefix;
        let (mut done, mut from) = (0, 0);
        if prefix {
            let head = text.as_bytes().iter().take(automaton.matcher.longest());
            let head: Vec<u8> = std::iter::once(b' ').chain(head.copied()).collect();
            if let Some((len, found)) = automaton.longest_prefix(&head) {
                from = len - 1;
                if let Some(token) = self.counts(found, "", &text[from..], split_special) {
                    visit((0..from, Some(token.id)), true)?;
                    (done, with_prefix) = (from, false);
                }
            }
        }
        let mut search = automaton.matcher.search(text.as_bytes());
        while let Some((range, found)) = automaton.find(&mut search, from) {
            from = range.end;
            let (before, after) = (&text[..range.start], &text[range.end..]);
            let Some(token) = self.counts(found, before, after, split_special) else { continue };
            if done < range.start || with_prefix {
                visit((done..range.start, None), with_prefix)?;
            }
            visit((range.clone(), Some(token.id)), false)?;
            (done, with_prefix) = (range.end, false);
        }
        if done < text.len() || with_prefix {
            visit((done..text.len(), None), with_prefix)?;
        }
        Ok(true)
    }

    /// The token that was found, if it counts there.
    fn counts(&self, found: u32, before: &str, after: &str, split_special: bool) -> Option<&AddedToken> {
        let token = &self.tokens.tokens()[found as usize];
        let is_within =
            || before.chars().next_back().is_some_and(is_word) || after.chars().next().is_some_and(is_word);
        let is_text = (split_special && token.special) || (token.single_word && is_within());
        (!is_text).then_some(token)
    }

    /// `AddedVocabulary::find_matches`.
    fn split(
        &self,
        automaton: &Automaton,
        text: &str,
        split_special: bool,
        mut visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        // What lies within a match is not searched again, even where the match does not count.
        for (Range { mut start, mut end }, found) in automaton.matches(text) {
            let (before, after) = (&text[..start], &text[end..]);
            let Some(token) = self.counts(found, before, after, split_special) else { continue };
            if token.lstrip {
                // Not beyond `done`: where runs of white space hold many tokens, each would go over all of it.
                start = if start < done { done } else { done + text[done..start].trim_end().len() };
            }
            if token.rstrip {
                // Between `end` and a later `done` there is the white space that another token took.
                end = text.len() - text[end.max(done)..].trim_start().len();
            }
            if start > end {
                // The token before has taken more than its text. (The library panics here.)
                continue;
            }
            if done < start {
                visit((done..start, None))?;
            }
            // A token of which the normalizer leaves nothing parts the text and is not there itself.
            if start < end {
                visit((start..end, Some(token.id)))?;
            }
            done = end;
        }
        if done < text.len() || text.is_empty() {
            visit((done..text.len(), None))?;
        }
        Ok(())
    }
}

impl Automaton {
    /// The first of the longest matches at or behind `from` of tokens that are not empty, and its token's
    /// number.
    fn find(&self, search: &mut Search<'_>, from: usize) -> Option<(Range<usize>, u32)> {
        let (range, found) = search.find(from)?;
        Some((range, self.numbers[found as usize]))
    }

    /// The length of the longest of the tokens with which `bytes` begin, and its number.
    fn longest_prefix(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let (len, found) = self.matcher.longest_prefix(bytes)?;
        Some((len, self.numbers[found as usize]))
    }

    /// All matches from left to right, the longest at each place, none within another. The empty token is
    /// found wherever nothing longer begins, but not where the match before ends (`find_iter` of the
    /// library's automaton).
    fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (Range<usize>, u32)> + 'a {
        let mut from = 0;
        let mut last_end = None;
        let mut search = self.matcher.search(text.as_bytes());
        let mut ahead = self.find(&mut search, 0);
        std::iter::from_fn(move || {
            if ahead.as_ref().is_some_and(|(range, _)| range.start < from) {
                ahead = self.find(&mut search, from);
            }
            let nothing = self.empty.and_then(|number| {
                let width = text[from..].chars().next().map(char::len_utf8);
                let place = if last_end == Some(from) { from + width? } else { from };
                Some((place..place, number))
            });
            let next = match (ahead.clone(), nothing) {
                (Some(longer), Some(nothing)) if nothing.0.start < longer.0.start => nothing,
                (Some(longer), _) => longer,
                (None, nothing) => nothing?,
            };
            from = next.0.end;
            last_end = Some(from);
            Some(next)
        })
    }
}

/// Whether a character matches `\w` of the regex library.
fn is_word(c: char) -> bool {
    regex_syntax::is_word_character(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: TokenId, content: &str, normalized: bool) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized,
            special: false,
        }
    }

    fn splitter(tokens: Vec<AddedToken>) -> Splitter {
        let normalize = |content: &str| format!("▁{}", content.replace(' ', "▁"));
        Splitter::new(Arc::new(AddedTokens::new(tokens)), normalize).unwrap()
    }

    fn raw(tokens: Vec<AddedToken>, text: &str) -> Vec<(&str, Option<TokenId>)> {
        let mut parts = Vec::new();
        let visit = |(range, id): Part| {
            parts.push((&text[range], id));
            Ok(())
        };
        splitter(tokens).split_raw(text, false, visit).unwrap();
        parts
    }

    #[test]
    fn conditions_hold() {
        let word = AddedToken { single_word: true, ..token(1, "a", false) };
        assert_eq!(raw(vec![word], "ba a.é"), [("ba ", None), ("a", Some(1)), (".é", None)]);
        let strips = AddedToken { lstrip: true, rstrip: true, ..token(1, "x", false) };
        assert_eq!(raw(vec![strips], "a x \nb"), [("a", None), (" x \n", Some(1)), ("b", None)]);
    }

    #[test]
    fn a_token_of_which_nothing_is_left_parts_the_text() {
        let split = |tokens: Vec<AddedToken>, text: &'static str| {
            let splitter = Splitter::new(Arc::new(AddedTokens::new(tokens)), |content: &str| {
                content.trim_end().to_owned()
            });
            let mut parts = Vec::new();
            let visit = |(range, id): Part| {
                parts.push((&text[range], id));
                Ok(())
            };
            splitter.unwrap().split_normalized(text, false, visit).unwrap();
            parts
        };
        assert_eq!(split(vec![token(1, " ", true)], "aé"), [("a", None), ("é", None)]);
        assert_eq!(split(vec![token(1, " ", true)], ""), [("", None)]);
        let with_longer = vec![token(1, " ", true), token(2, "bc", true)];
        assert_eq!(split(with_longer, "abcde"), [("a", None), ("bc", Some(2)), ("d", None), ("e", None)]);
        let strips = AddedToken { rstrip: true, ..token(1, " ", true) };
        assert_eq!(split(vec![strips], "a b"), [("a", None), (" ", Some(1)), ("b", None)]);
        let single = AddedToken { single_word: true, ..token(1, " ", true) };
        assert_eq!(split(vec![single], "ab .,"), [("ab ", None), (".", None), (",", None)]);
    }

    #[test]
    fn text_that_a_token_has_taken_is_not_given_again() {
        let tokens = || {
            let left = AddedToken { lstrip: true, ..token(1, "  ", false) };
            vec![left, AddedToken { rstrip: true, ..token(2, "o", false) }]
        };
        assert_eq!(raw(tokens(), "o  b"), [("o  ", Some(2)), ("b", None)]);
        assert_eq!(raw(tokens(), "o    _"), [("o    ", Some(2)), ("_", None)]);
        assert_eq!(raw(tokens(), "o     \u{3000}b"), [("o     \u{3000}", Some(2)), ("b", None)]);
    }

    #[test]
    fn spaces_are_sought_as_the_symbols_that_they_become() {
        let tokens = vec![token(1, "foo", true), AddedToken { single_word: true, ..token(2, "b b", true) }];
        let splitter = splitter(tokens);
        for text in ["foo", "a foo", "afoo foo", "b b", "b bx b b.", " foo", "", "x", "foofoo"] {
            let normalized = format!("▁{}", text.replace(' ', "▁"));
            let (mut expected, mut spaced) = (Vec::new(), Vec::new());
            let visit = |(range, id): Part| {
                expected.push((normalized[range].to_owned(), id));
                Ok(())
            };
            splitter.split_normalized(&normalized, false, visit).unwrap();
            let visit = |(range, id): Part, with_prefix: bool| {
                let front = if with_prefix { "▁" } else { "" };
                spaced.push((format!("{front}{}", text[range].replace(' ', "▁")), id));
                Ok(())
            };
            assert!(splitter.split_spaced(text, true, false, visit).unwrap());
            assert_eq!(spaced, expected, "{text:?}");
        }
        assert!(!splitter.split_spaced("a▁foo", true, false, |_, _| Ok(())).unwrap());
    }
}
