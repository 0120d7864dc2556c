//! Finds which of many strings comes first in a text; of several that begin there, the longest.
//!
//! Nearly no place of a text begins with a sought string, so places are ruled out first: by a search for
//! the few bytes that strings begin with or, where these are many, by a bit for each hash of the first
//! bytes. A place that passes is looked up in a trie.

use std::ops::Range;

use memchr::memmem;

use crate::bpe::trie::Trie;

/// Strings to be found.
#[derive(Debug)]
pub(crate) struct Matcher {
    trie: Trie,
    lens: Vec<u32>,
    longest: usize,
    filter: Filter,
}

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

/// A string that was found: where, and its number.
pub(crate) type Match = (Range<usize>, u32);

impl Matcher {
    /// A matcher of strings, which must not be empty; of equal ones the first counts. `None` if they are
    /// too many or too long for the trie.
    pub(crate) fn new<'a>(strings: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let strings: Vec<&[u8]> = strings.into_iter().map(str::as_bytes).collect();
        let mut keys: Vec<(&[u8], u32)> = strings.iter().copied().zip(0..).collect();
        keys.sort_unstable();
        keys.dedup_by_key(|key| key.0);
        let lens = strings.iter().map(|string| string.len() as u32).collect();
        let longest = strings.iter().map(|string| string.len()).max().unwrap_or(0);
        Some(Self { filter: Filter::new(&keys), trie: Trie::new(&keys)?, lens, longest })
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
    pub(crate) fn find(&self, text: &[u8], mut from: usize) -> Option<Match> {
        loop {
            from = self.filter.next(text, from)?;
            if let Some(number) = self.trie.longest_prefix(&text[from..]) {
                return Some((from..from + self.lens[number as usize] as usize, number));
            }
            from += 1;
        }
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
    }
}
