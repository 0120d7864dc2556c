//! Where text may be cut before merging.
//!
//! **Cut rule.** Text may be cut between two neighbouring characters if no mergeable piece holds the
//! two side by side. *Proof.* A merge whose product spans the cut would give a mergeable piece that
//! holds the two characters side by side; there is none, so no merge ever spans it, and the pairs on
//! one side are the same whatever stands on the other. The agenda takes pairs by score, then by
//! position; on either side this is the order of that side alone. ∎ (User-defined symbols are
//! mergeable pieces, so no cut falls inside one.)

use super::Set;
use crate::vocabulary::Vocabulary;

/// The pairs of characters that stand side by side in some mergeable piece.
#[derive(Debug)]
pub(crate) struct Adjacency {
    /// For each ASCII character, the ASCII characters that may follow it.
    ascii: Box<[u128; 128]>,
    others: Set<(char, char)>,
}

impl Adjacency {
    /// The adjacency of the mergeable pieces of a vocabulary.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let mut ascii = Box::new([0u128; 128]);
        let mut others = Set::default();
        for piece in vocabulary.pieces().iter().filter(|piece| piece.kind.is_mergeable()) {
            for (left, right) in piece.text.chars().zip(piece.text.chars().skip(1)) {
                if left.is_ascii() && right.is_ascii() {
                    ascii[left as usize] |= 1 << (right as u32);
                } else {
                    others.insert((left, right));
                }
            }
        }
        Self { ascii, others }
    }

    /// Whether some mergeable piece holds `right` directly after `left`.
    pub(crate) fn contains(&self, left: char, right: char) -> bool {
        if left.is_ascii() && right.is_ascii() {
            self.ascii[left as usize] >> (right as u32) & 1 == 1
        } else {
            self.others.contains(&(left, right))
        }
    }
}
