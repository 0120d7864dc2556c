//! Finds which of many strings comes first in a text; of several that begin there, the longest.
//!
//! Nearly no place of a text begins with a sought string, so places are ruled out first: by a search for
//! the few bytes that strings begin with or, where these are many, by a bit for each hash of the first
//! bytes. A place that passes is looked up in a trie.

use std::ops::Range;

use crate::bpe::trie::Trie;

/// Strings to be found.
#[derive(Debug)]
pub(crate) struct Matcher {
    trie: Trie,
    lens: Vec<u32>,
    filter: Filter,
}

/// What rules places out.
#[derive(Debug)]
enum Filter {
    /// Nothing is sought.
    Nothing,
    /// Up to three bytes that strings begin with (repeated where they are fewer).
    Bytes([u8; 3]),
    /// A bit for each hash of the first `len` bytes, 2 to 4, the length of the shortest string or less.
    Prefixes { bits: Box<[u64]>, shift: u32, len: usize },
    /// For each byte, whether a string begins with it.
    First(Box<[bool; 256]>),
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
        Some(Self { filter: Filter::new(&keys), trie: Trie::new(&keys)?, lens })
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
        match first[..] {
            [] => Self::Nothing,
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
            _ => {
                let len = shortest.min(4);
                // Some thirty bits a string, within the cache next to the processor.
                let log = (keys.len() * 32).next_power_of_two().trailing_zeros().clamp(12, 19);
                let shift = 32 - log;
                let mut bits = vec![0u64; (1 << log) / 64].into_boxed_slice();
                for (key, _) in keys {
                    let mut prefix = [0; 4];
                    prefix[..len].copy_from_slice(&key[..len]);
                    let hash = hash(u32::from_le_bytes(prefix), shift);
                    bits[hash / 64] |= 1 << (hash % 64);
                }
                Self::Prefixes { bits, shift, len }
            }
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
            Self::First(table) => rest.iter().position(|&byte| table[usize::from(byte)]),
            Self::Prefixes { bits, shift, len } => {
                let mask = u32::MAX >> (32 - 8 * len);
                let passes = |window: &[u8]| {
                    let prefix = u32::from_le_bytes([window[0], window[1], window[2], window[3]]) & mask;
                    let hash = hash(prefix, *shift);
                    bits[hash / 64] >> (hash % 64) & 1 == 1
                };
                let found = rest.windows(4).position(passes);
                // The last places have no four bytes; there are but three of them.
                found.or_else(|| {
                    (rest.len().saturating_sub(3)..rest.len()).find(|&index| rest.len() - index >= *len)
                })
            }
        };
        found.map(|index| from + index)
    }
}

/// The upper bits of a product that mixes all bits of `prefix`.
#[inline]
fn hash(prefix: u32, shift: u32) -> usize {
    (prefix.wrapping_mul(0x9E37_79B1) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_the_leftmost_longest(
            strings in prop::collection::hash_set("[abé中]{1,6}|[a-z]{2,5}", 0..60),
            text in "[abcé中x]{0,60}",
        ) {
            let strings: Vec<String> = strings.into_iter().collect();
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
