//! SentencePiece's compiled normalization rules, as the HF tokenizers library reads them.
//!
//! It does not read them as SentencePiece does (crate spm_precompiled 0.1.4, and `Precompiled` in
//! tokenizers 0.23.2): text is taken grapheme by grapheme. If a rule's key is a prefix of a grapheme of
//! at most five bytes, the *shortest* such key's replacement stands for the *whole* grapheme; otherwise
//! the same is done with each of its characters.

use unicode_segmentation::UnicodeSegmentation;

use super::aligned::{AlignedText, Change};
use crate::normalize::charsmap::CharsMap;
use crate::Result;

/// Graphemes of so many bytes and more are taken apart at once.
const LONG_GRAPHEME: usize = 6;

/// Compiled rules.
#[derive(Debug, Clone)]
pub struct Precompiled {
    charsmap: Vec<u8>,
    rules: CharsMap,
}

impl PartialEq for Precompiled {
    fn eq(&self, other: &Self) -> bool {
        self.charsmap == other.charsmap
    }
}

impl Eq for Precompiled {}

impl Precompiled {
    /// Reads a `precompiled_charsmap`, which stands in the given field of a file.
    ///
    /// # Errors
    /// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) where it is damaged.
    pub fn new(charsmap: Vec<u8>, field: &str) -> Result<Self> {
        let rules = CharsMap::new(&charsmap, field)?;
        Ok(Self { charsmap, rules })
    }

    /// The compiled rules as they stand in files.
    pub fn charsmap(&self) -> &[u8] {
        &self.charsmap
    }

    /// The length in bytes of the longest text that takes the place of another.
    pub(super) fn longest_replacement(&self) -> usize {
        self.rules.longest_replacement()
    }

    /// What stands for the whole of `part`, if a rule says so.
    fn transform(&self, part: &str) -> Option<&str> {
        // A NUL ends a text there.
        let len = part.bytes().position(|byte| byte == 0).unwrap_or(part.len());
        self.rules.shortest_match(&part.as_bytes()[..len]).map(|(_, replacement)| replacement)
    }

    pub(super) fn normalize(&self, text: &mut AlignedText) {
        let mut changes: Vec<Change> = Vec::with_capacity(text.text().len());
        let mut is_changed = false;
        let mut replace = |changes: &mut Vec<Change>, old: &str| {
            let Some(new) = self.transform(old) else { return false };
            is_changed = true;
            put(changes, old.chars().count(), new);
            true
        };
        for grapheme in text.text().graphemes(true) {
            if grapheme.len() < LONG_GRAPHEME && replace(&mut changes, grapheme) {
                continue;
            }
            for c in grapheme.chars() {
                if !replace(&mut changes, c.encode_utf8(&mut [0; 4])) {
                    changes.push((c, 0));
                }
            }
        }
        if is_changed {
            text.transform(changes, 0);
        }
    }
}

/// Appends `new` for `old_len` characters, with the bookkeeping of `replace` in the library's
/// `normalizers/precompiled.rs`.
fn put(changes: &mut Vec<Change>, old_len: usize, new: &str) {
    changes.extend(new.chars().map(|c| (c, 0)));
    let new_len = new.chars().count();
    if new_len > old_len {
        let added = changes.iter_mut().rev().take(new_len - old_len);
        added.for_each(|(_, change)| *change = 1);
    } else if let Some((_, change)) = changes.last_mut() {
        *change -= (old_len - new_len) as isize;
    }
}
