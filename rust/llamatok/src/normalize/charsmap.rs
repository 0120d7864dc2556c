//! SentencePiece's precompiled character map: a double-array trie whose keys are replaced by
//! strings.
//!
//! The blob is `u32` trie size (little-endian), the trie's units (`u32` each), and the replacements,
//! each ended by NUL. The trie is Darts-clone's; a unit packs a label, whether a value hangs below
//! it, and the XOR distance to its children. The blob comes from strangers: whatever the search may
//! touch is either checked here once or looked up with a bounds check.

use crate::{Error, Result};

/// SentencePiece looks at the first 32 keys that match at a position, the shortest ones first.
const MAX_MATCHES: usize = 32;
/// How many bytes may take the place of a key. A map that makes more of a byte of text is no rule of writing,
/// but a trap; SentencePiece's own have 33 at most.
const MAX_REPLACEMENT_BYTES: usize = 4096;
/// How long a key may be: so many bytes may be read at each place of a text. SentencePiece's own have some tens.
const MAX_KEY_BYTES: usize = 256;

/// A checked character map.
#[derive(Debug, Clone)]
pub(crate) struct CharsMap {
    units: Vec<u32>,
    replacements: String,
}

impl CharsMap {
    /// Parses a blob, which stands in the given field of a file.
    pub(crate) fn new(blob: &[u8], field: &str) -> Result<Self> {
        let fault = |message: String| Err(Error::model_format(field, message));
        let Some((size, rest)) = blob.split_first_chunk::<4>() else {
            return fault(format!("{} bytes are too few to hold the size of the trie", blob.len()));
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size < 1024 || !size.is_multiple_of(1024) || size >= rest.len() {
            return fault(format!(
                "the size of the trie, {size}, is no multiple of 1024 that leaves room for the replacements ({} bytes follow)",
                rest.len()
            ));
        }
        let (trie, replacements) = rest.split_at(size);
        let units: Vec<u32> =
            trie.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let Ok(replacements) = std::str::from_utf8(replacements) else {
            return fault("the replacements are no UTF-8".into());
        };
        if let Some(longest) =
            replacements.split('\0').map(str::len).max().filter(|&len| len > MAX_REPLACEMENT_BYTES)
        {
            return fault(format!(
                "a replacement of {longest} bytes; at most {MAX_REPLACEMENT_BYTES} are supported"
            ));
        }
        for (index, &unit) in units.iter().enumerate() {
            if !has_leaf(unit) {
                continue;
            }
            let leaf = index ^ offset(unit);
            let start = units.get(leaf).map(|&u| value(u));
            if !start.is_some_and(|start| start < replacements.len() && replacements.is_char_boundary(start))
            {
                return fault(format!("unit {index} of the trie leads outside of the replacements"));
            }
        }
        match longest_path(&units) {
            Some(len) if len <= MAX_KEY_BYTES => {}
            Some(len) => {
                return fault(format!("a key of {len} bytes; at most {MAX_KEY_BYTES} are supported"));
            }
            None => return fault("the trie leads back to itself".into()),
        }
        Ok(Self { units, replacements: replacements.into() })
    }

    /// The length in bytes of the longest replacement.
    pub(crate) fn longest_replacement(&self) -> usize {
        self.replacements.split('\0').map(str::len).max().unwrap_or(0)
    }

    /// The longest key that `text` begins with: its length in bytes (at least 1) and its replacement.
    pub(crate) fn longest_match(&self, text: &[u8]) -> Option<(usize, &str)> {
        self.last_match(text, MAX_MATCHES)
    }

    /// The shortest key that `text` begins with, likewise.
    pub(crate) fn shortest_match(&self, text: &[u8]) -> Option<(usize, &str)> {
        self.last_match(text, 1)
    }

    /// The last one of the first `max_matches` keys, from the shortest on.
    fn last_match(&self, text: &[u8], max_matches: usize) -> Option<(usize, &str)> {
        let mut node = offset(*self.units.first()?);
        let mut best = None;
        let mut matches = 0;
        for (index, &byte) in text.iter().enumerate() {
            // No key holds a NUL; units that are not in use may look like one.
            if byte == 0 {
                break;
            }
            node ^= usize::from(byte);
            let Some(&unit) = self.units.get(node) else { break };
            if label(unit) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if has_leaf(unit) {
                best = self.units.get(node).map(|&leaf| (index + 1, value(leaf)));
                matches += 1;
                if matches == max_matches {
                    break;
                }
            }
        }
        let (len, start) = best?;
        let rest = self.replacements.get(start..)?;
        Some((len, rest.split('\0').next().unwrap_or(rest)))
    }
}

/// The number of bytes on the longest way from the root of a trie; `None` where it leads back to itself.
fn longest_path(units: &[u32]) -> Option<usize> {
    // The units that are children of a place are those that differ from it by their label, all in one block
    // of 256; they are put in order by that place. Those with the top bit are values, and no key holds a NUL.
    let children = || (0..units.len()).filter(|&unit| units[unit] >> 31 == 0 && units[unit] & 0xFF != 0);
    let parent = |unit: usize| unit ^ (units[unit] & 0xFF) as usize;
    let mut starts = vec![0u32; units.len() + 1];
    for unit in children() {
        starts[parent(unit) + 1] += 1;
    }
    for place in 0..units.len() {
        starts[place + 1] += starts[place];
    }
    let mut sorted = vec![0u32; starts[units.len()] as usize];
    let mut filled = starts.clone();
    for unit in children() {
        let slot = &mut filled[parent(unit)];
        sorted[*slot as usize] = unit as u32;
        *slot += 1;
    }
    // Depth first. A place has the longest way behind it, counted from 1, once that is known.
    const OPEN: u32 = u32::MAX;
    let mut lens = vec![0u32; units.len()];
    let root = offset(*units.first()?);
    let Some(len) = lens.get_mut(root) else { return Some(0) };
    *len = OPEN;
    let mut stack = vec![(root, starts[root], 1)];
    loop {
        let (place, next, longest) = stack.last_mut()?;
        if *next == starts[*place + 1] {
            let (place, longest) = (*place, *longest);
            lens[place] = longest;
            stack.pop();
            match stack.last_mut() {
                Some(above) => above.2 = above.2.max(longest + 1),
                None => return Some(longest as usize - 1),
            }
            continue;
        }
        let unit = sorted[*next as usize] as usize;
        *next += 1;
        let below = unit ^ offset(units[unit]);
        match lens.get(below) {
            // Outside of the trie: nothing is below.
            None => *longest = (*longest).max(2),
            Some(0) => {
                lens[below] = OPEN;
                stack.push((below, starts[below], 1));
            }
            Some(&OPEN) => return None,
            Some(&known) => *longest = (*longest).max(known + 1),
        }
    }
}

fn has_leaf(unit: u32) -> bool {
    // A value unit has its top bit set and no other fields.
    unit >> 31 == 0 && (unit >> 8) & 1 == 1
}

fn value(unit: u32) -> usize {
    (unit & 0x7FFF_FFFF) as usize
}

fn label(unit: u32) -> u32 {
    unit & 0x8000_00FF
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A map of the trie's units, with the one value `bc`.
    fn packed(units: &[u32]) -> Vec<u8> {
        let len = units.len() as u32 * 4;
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        len.to_le_bytes().into_iter().chain(units).chain(*b"bc\0").collect()
    }

    /// A map with the one rule `a` → `bc`: the root's children begin at unit 256.
    fn blob() -> Vec<u8> {
        let mut units = vec![0u32; 512];
        units[0] = 256 << 10;
        let child = 256 ^ usize::from(b'a');
        // The value of `a` hangs below it at child ^ 1.
        units[child] = (1 << 10) | (1 << 8) | u32::from(b'a');
        units[child ^ 1] = 1 << 31;
        packed(&units)
    }

    #[test]
    fn replaces_the_longest_key() {
        let map = CharsMap::new(&blob(), "f").unwrap();
        assert_eq!(map.longest_match(b"aa"), Some((1, "bc")));
        assert_eq!(map.longest_match(b"ba"), None);
        assert_eq!(map.longest_match(b""), None);
    }

    /// A map with one key of `a`s, each of which is a child of the one before.
    fn long_key(len: usize) -> Vec<u8> {
        let mut units = vec![0u32; (len + 2) * 256];
        units[0] = 256 << 10;
        for depth in 1..=len {
            let unit = (depth * 256) ^ usize::from(b'a');
            let below = (depth + 1) * 256;
            units[unit] = ((unit ^ below) as u32) << 10 | u32::from(b'a');
        }
        let last = (len * 256) ^ usize::from(b'a');
        units[last] |= 1 << 8;
        packed(&units)
    }

    #[test]
    fn keys_have_a_greatest_length() {
        let map = CharsMap::new(&long_key(MAX_KEY_BYTES), "f").unwrap();
        let text = [b'a'; 300];
        assert_eq!(map.longest_match(&text), Some((MAX_KEY_BYTES, "bc")));
        let error = CharsMap::new(&long_key(MAX_KEY_BYTES + 1), "f").unwrap_err().to_string();
        assert!(error.contains("a key of 257 bytes"), "{error}");
        // The `a` is its own child, so that a key has no end.
        let mut cycle = blob();
        let child = 256 ^ u32::from(b'a');
        let unit = (child ^ 256) << 10 | 1 << 8 | u32::from(b'a');
        cycle[4 + 4 * child as usize..][..4].copy_from_slice(&unit.to_le_bytes());
        let error = CharsMap::new(&cycle, "f").unwrap_err().to_string();
        assert!(error.contains("leads back to itself"), "{error}");
    }

    #[test]
    fn damage_is_refused() {
        assert!(CharsMap::new(b"", "f").is_err());
        assert!(CharsMap::new(&blob()[..1000], "f").is_err());
        let mut outside = blob();
        let leaf = 4 + 4 * (256 ^ usize::from(b'a') ^ 1);
        outside[leaf] = 200;
        assert!(CharsMap::new(&outside, "f").unwrap_err().to_string().contains("outside"));
        let mut long = blob();
        long.extend(vec![b'x'; MAX_REPLACEMENT_BYTES + 1]);
        assert!(CharsMap::new(&long, "f").unwrap_err().to_string().contains("4097 bytes"));
    }

    proptest! {
        #[test]
        fn any_blob_is_safe(mut units in proptest::collection::vec(any::<u32>(), 256), text: Vec<u8>) {
            units[0] &= 0x3FFFF;
            let mut blob = 1024u32.to_le_bytes().to_vec();
            blob.extend(units.iter().flat_map(|u| u.to_le_bytes()));
            blob.extend(b"abc\0");
            if let Ok(map) = CharsMap::new(&blob, "f") {
                map.longest_match(&text);
            }
        }
    }
}
