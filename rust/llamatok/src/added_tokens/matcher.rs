//! Finds which of many strings comes first in a text; of several that begin there, the longest.
//!
//! Nearly no place of a text begins with a sought string, so places are ruled out first: by a search for
//! the few bytes that strings begin with or, where these are many, by a bit for each hash of the first
//! bytes. A place that passes is looked up in a trie.
//!
//! A text may be made so that each place passes and each look-up is long. Where look-ups have read many times
//! what the search has advanced, the next stretch of text is read [`backward`](super::backward) once, in time
//! that does not depend on the strings.

use std::ops::Range;
use std::sync::OnceLock;

use memchr::memmem;

use super::backward::{Backward, NOTHING};
use crate::bpe::trie::Trie;

/// Strings to be found.
#[derive(Debug)]
pub(crate) struct Matcher {
    trie: Trie,
    lens: Vec<u32>,
    longest: usize,
    filter: Filter,
    /// The strings and their numbers, from which `backward` is made when a text asks for it.
    strings: Vec<(Box<[u8]>, u32)>,
    backward: OnceLock<Backward>,
}

/// A search through one text, from left to right.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    matcher: &'a Matcher,
    text: &'a [u8],
    /// What look-ups have read, less what was advanced times [`ALLOWED`].
    debt: usize,
    /// From what debt on text is read backward.
    grace: usize,
    /// The stretch of text that was read backward, and what begins at each of its places.
    stretch: Range<usize>,
    begins: Vec<u32>,
}

/// How many bytes look-ups may read for each byte that the search advances.
const ALLOWED: usize = 8;
/// How much more they may read, besides, in strings of the greatest length or in bytes.
const GRACE: usize = 4;
const MIN_GRACE_BYTES: usize = 1 << 14;

/// What rules places out.
#[derive(Debug)]
enum Filter {
    /// Nothing is sought.
    Nothing,
    /// Up to three bytes that strings begin with (repeated where they are fewer).
    Bytes([u8; 3]),
    /// A bit for each hash of the first bytes, for few different ones and for many.
    Few(Prefixes<FEW_WORDS>),
    Many(Prefixes<MANY_WORDS>),
    /// For each byte, whether a string begins with it.
    First(Box<[bool; 256]>),
    /// What all strings begin with: two bytes or more.
    Common(Box<memmem::Finder<'static>>),
}

/// The most bytes of all strings together. The automaton that reads backward has a state for each of them, at
/// some fifty bytes.
const MAX_BYTES: usize = 1 << 23;

/// What is wrong with strings of which there is no matcher.
pub(crate) const TOO_MANY: &str =
    "too many or too long: 8 MiB together are supported, and less where they branch often";

/// A string that was found: where, and its number.
pub(crate) type Match = (Range<usize>, u32);

impl Matcher {
    /// A matcher of strings, which must not be empty; of equal ones the first counts. `None` if they have more
    /// than [`MAX_BYTES`] together, or are too many for the trie.
    pub(crate) fn new<'a>(strings: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let strings: Vec<&[u8]> = strings.into_iter().map(str::as_bytes).collect();
        if strings.iter().map(|string| string.len()).sum::<usize>() > MAX_BYTES {
            return None;
        }
        let mut keys: Vec<(&[u8], u32)> = strings.iter().copied().zip(0..).collect();
        keys.sort_unstable();
        keys.dedup_by_key(|key| key.0);
        let lens = strings.iter().map(|string| string.len() as u32).collect();
        let longest = strings.iter().map(|string| string.len()).max().unwrap_or(0);
        Some(Self {
            filter: Filter::new(&keys),
            trie: Trie::new(&keys)?,
            lens,
            longest,
            strings: keys.iter().map(|&(string, number)| (string.into(), number)).collect(),
            backward: OnceLock::new(),
        })
    }

    /// A search through `text`.
    pub(crate) fn search<'a>(&'a self, text: &'a [u8]) -> Search<'a> {
        let grace = (GRACE * self.longest).max(MIN_GRACE_BYTES);
        Search { matcher: self, text, debt: 0, grace, stretch: 0..0, begins: Vec::new() }
    }

    /// The longest string that `text` begins with: its length and its number.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        let number = self.trie.longest_prefix(text)?;
        Some((self.lens[number as usize] as usize, number))
    }

    /// The most bytes of a string.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The first match that begins at `from` or later.
    #[cfg(test)]
    pub(crate) fn find(&self, text: &[u8], from: usize) -> Option<Match> {
        self.search(text).find(from)
    }

    fn found(&self, from: usize, number: u32) -> Match {
        (from..from + self.lens[number as usize] as usize, number)
    }
}

impl Search<'_> {
    /// The first match that begins at `from` or later.
    pub(crate) fn find(&mut self, mut from: usize) -> Option<Match> {
        loop {
            if self.stretch.contains(&from) {
                let begins = &self.begins[from - self.stretch.start..];
                if let Some(index) = begins.iter().position(|&number| number != NOTHING) {
                    return Some(self.matcher.found(from + index, begins[index]));
                }
                from = self.stretch.end;
            }
            if self.debt > self.grace {
                self.read_backward(from);
                continue;
            }
            let next = self.matcher.filter.next(self.text, from)?;
            self.debt = self.debt.saturating_sub((next - from) * ALLOWED);
            from = next;
            let (number, read) = self.matcher.trie.longest_prefix_and_reach(&self.text[from..]);
            self.debt = (self.debt + read).saturating_sub(ALLOWED);
            if let Some(number) = number {
                return Some(self.matcher.found(from, number));
            }
            from += 1;
        }
    }

    /// Finds out for a stretch of text from `from` on what begins where.
    fn read_backward(&mut self, from: usize) {
        let matcher = self.matcher;
        let backward = matcher.backward.get_or_init(|| Backward::new(&matcher.strings));
        // As long as what has to be read beyond it, so that this at most doubles the work.
        let end = self.text.len().min(from + matcher.longest.max(MIN_GRACE_BYTES));
        let beyond = self.text.len().min(end + matcher.longest);
        backward.read(&self.text[from..beyond], end - from, &mut self.begins);
        self.stretch = from..end;
        self.debt = 0;
    }
}

impl Filter {
    fn new(keys: &[(&[u8], u32)]) -> Self {
        let mut first: Vec<u8> = keys.iter().map(|key| key.0[0]).collect();
        first.dedup();
        let shortest = keys.iter().map(|key| key.0.len()).min().unwrap_or(0);
        if let [(low, _), .., (high, _)] = keys {
            // All others lie between the two, and so begin like them.
            let common = low.iter().zip(*high).take_while(|(a, b)| a == b).count();
            if common > 1 {
                return Self::Common(Box::new(memmem::Finder::new(&low[..common]).into_owned()));
            }
        }
        // Bytes that stand in every word rule next to nothing out.
        let are_frequent = first.iter().any(|&byte| byte == b' ' || byte.is_ascii_alphanumeric());
        match first[..] {
            [] => Self::Nothing,
            _ if are_frequent && shortest > 1 => Self::of_prefixes(keys, shortest),
            [a] => Self::Bytes([a; 3]),
            [a, b] => Self::Bytes([a, b, b]),
            [a, b, c] => Self::Bytes([a, b, c]),
            _ if shortest == 1 => {
                let mut table = Box::new([false; 256]);
                for byte in first {
                    table[usize::from(byte)] = true;
                }
                Self::First(table)
            }
            _ => Self::of_prefixes(keys, shortest),
        }
    }

    fn of_prefixes(keys: &[(&[u8], u32)], shortest: usize) -> Self {
        let len = shortest.min(4);
        let prefix = |(key, _): &(&[u8], u32)| {
            let mut prefix = [0; 4];
            prefix[..len].copy_from_slice(&key[..len]);
            u32::from_le_bytes(prefix)
        };
        let mut prefixes: Vec<u32> = keys.iter().map(prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        // Few places are to pass that should not: each costs a look into the trie.
        if prefixes.len() * 128 <= FEW_WORDS * 64 {
            Self::Few(Prefixes::new(&prefixes, len))
        } else {
            Self::Many(Prefixes::new(&prefixes, len))
        }
    }

    /// The first place from `from` on that is not ruled out.
    fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match self {
            Self::Nothing => None,
            Self::Bytes([a, b, c]) if b == c => {
                if a == b {
                    memchr::memchr(*a, rest)
                } else {
                    memchr::memchr2(*a, *b, rest)
                }
            }
            Self::Bytes([a, b, c]) => memchr::memchr3(*a, *b, *c, rest),
            Self::Common(finder) => finder.find(rest),
            Self::First(table) => rest.iter().position(|&byte| table[usize::from(byte)]),
            Self::Few(prefixes) => prefixes.next(rest),
            Self::Many(prefixes) => prefixes.next(rest),
        };
        found.map(|index| from + index)
    }
}

/// The sizes of the tables of bits: within the caches of the first and of the second level.
const FEW_WORDS: usize = 1 << 9;
const MANY_WORDS: usize = 1 << 13;

/// A bit for each hash of the first `len` bytes, 2 to 4, the length of the shortest string or less.
#[derive(Debug)]
struct Prefixes<const WORDS: usize> {
    bits: Box<[u64; WORDS]>,
    mask: u32,
    len: usize,
}

impl<const WORDS: usize> Prefixes<WORDS> {
    fn new(prefixes: &[u32], len: usize) -> Self {
        let mut table = Self { bits: Box::new([0; WORDS]), mask: u32::MAX >> (32 - 8 * len), len };
        for &prefix in prefixes {
            let hash = Self::hash(prefix);
            table.bits[hash / 64] |= 1 << (hash % 64);
        }
        table
    }

    /// The upper bits of a product that mixes all bits of `prefix`.
    #[inline]
    fn hash(prefix: u32) -> usize {
        let shift = 32 - (WORDS * 64).trailing_zeros();
        (prefix.wrapping_mul(0x9E37_79B1) >> shift) as usize % (WORDS * 64)
    }

    #[inline]
    fn passes(&self, window: u32) -> u64 {
        let hash = Self::hash(window & self.mask);
        self.bits[hash / 64] >> (hash % 64) & 1
    }

    /// The first place in `text` that is not ruled out.
    fn next(&self, text: &[u8]) -> Option<usize> {
        // Eight places at a time, with one branch for them all.
        const STEP: usize = 8;
        let mut index = 0;
        while let Some(block) = text[index..].first_chunk::<{ STEP + 4 }>() {
            let low = block.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let high = block.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let mut found = 0;
            for place in 0..4 {
                found |= self.passes((low >> (8 * place)) as u32) << place;
                found |= self.passes((high >> (8 * place)) as u32) << (place + 4);
            }
            if found != 0 {
                return Some(index + found.trailing_zeros() as usize);
            }
            index += STEP;
        }
        // Of the last places, no more than those that have room for a string.
        (index..text.len().saturating_sub(self.len - 1)).find(|&index| {
            let mut window = [0; 4];
            let rest = &text[index..text.len().min(index + 4)];
            window[..rest.len()].copy_from_slice(rest);
            self.passes(u32::from_le_bytes(window)) == 1
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_the_leftmost_longest(
            strings in prop::collection::hash_set("[abé中]{1,6}|[a-z]{2,5}", 0..60),
            many in prop::collection::hash_set("[a-z]{2,4}", 0..2000),
            is_many in any::<bool>(),
            text in "[abcé中x]{0,60}|[a-z]{0,40}",
        ) {
            let strings: Vec<String> = if is_many { many } else { strings }.into_iter().collect();
            let matcher = Matcher::new(strings.iter().map(String::as_str)).unwrap();
            for from in 0..=text.len() {
                let expected = (from..text.len()).find_map(|start| {
                    let longest = (0..).zip(&strings)
                        .filter(|(_, string)| text.as_bytes()[start..].starts_with(string.as_bytes()))
                        .max_by_key(|(_, string)| string.len());
                    longest.map(|(number, string)| (start..start + string.len(), number))
                });
                prop_assert_eq!(matcher.find(text.as_bytes(), from), expected);
            }
        }

        #[test]
        fn reading_backward_finds_the_same(
            strings in prop::collection::hash_set("[ab]{1,6}|[abé中]{1,4}", 1..30),
            text in "[abcé中]{0,60}",
        ) {
            let strings: Vec<String> = strings.into_iter().collect();
            let matcher = Matcher::new(strings.iter().map(String::as_str)).unwrap();
            for from in 0..text.len() {
                let mut search = matcher.search(text.as_bytes());
                search.read_backward(from);
                for place in from..=text.len() {
                    prop_assert_eq!(search.find(place), matcher.find(text.as_bytes(), place));
                }
            }
        }
    }

    #[test]
    fn work_does_not_grow_with_the_strings() {
        // Each place looks like the beginning of all strings, up to their ends.
        let text = "a".repeat(1 << 16);
        for len in [1 << 6, 1 << 10, 1 << 14] {
            let strings: Vec<String> = ('b'..='j').map(|last| "a".repeat(len) + &last.to_string()).collect();
            let matcher = Matcher::new(strings.iter().map(String::as_str)).unwrap();
            let mut search = matcher.search(text.as_bytes());
            assert_eq!(search.find(0), None);
            assert!(matcher.backward.get().is_some(), "{len}");
        }
        // Each place is a string, and looks like the beginning of another one.
        let long = "a".repeat(1 << 12) + "b";
        let matcher = Matcher::new(["a", &long]).unwrap();
        let mut search = matcher.search(text.as_bytes());
        assert!((0..text.len()).all(|at| search.find(at) == Some((at..at + 1, 0))));
        assert!(matcher.backward.get().is_some());
        let short = Matcher::new(["ab", "ac"]).unwrap();
        assert_eq!(short.search(text.as_bytes()).find(0), None);
        assert!(short.backward.get().is_none());
    }

    #[test]
    fn strings_have_a_limit_together() {
        let half = "a".repeat(MAX_BYTES / 2);
        assert!(Matcher::new([half.as_str(), &half, "b"]).is_none());
    }

    proptest! {
        #[test]
        fn a_search_that_changes_its_way_finds_the_same(
            lens in prop::collection::hash_set(1usize..60, 1..6),
            places in prop::collection::vec((1usize..200, "[bc]"), 0..12),
        ) {
            let strings: Vec<String> =
                lens.iter().flat_map(|&len| ["a".repeat(len) + "b", "c".to_owned() + &"a".repeat(len), "a".repeat(len / 9 + 1)]).collect();
            let matcher = Matcher::new(strings.iter().map(String::as_str)).unwrap();
            let text: String = places.iter().map(|(len, last)| "a".repeat(*len) + last).collect();
            let mut search = Search { grace: 100, ..matcher.search(text.as_bytes()) };
            let (mut from, mut at) = (0, 0);
            while let Some((range, number)) = search.find(from) {
                // The same by single look-ups.
                while matcher.longest_prefix(&text.as_bytes()[at..]).is_none() {
                    at += 1;
                }
                prop_assert_eq!(at, range.start);
                let expected = matcher.longest_prefix(&text.as_bytes()[at..]);
                prop_assert_eq!(expected, Some((range.len(), number)));
                from = range.end;
                at = from;
            }
            prop_assert!((at..text.len()).all(|at| matcher.longest_prefix(&text.as_bytes()[at..]).is_none()));
        }
    }
}
