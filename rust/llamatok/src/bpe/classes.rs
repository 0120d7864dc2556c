//! Classes of bytes, made from a vocabulary, that show most of the places where text may be cut.
//!
//! The [cut rule](super::cuts) speaks of pairs of characters. A scan of bytes sees it through classes:
//! the ASCII characters fall into groups such that characters of different groups never stand side by
//! side in a piece (the connected components of the adjacency among them). Two groups are kept, the
//! largest ones; a group whose characters stand beside nothing at all, not even beside themselves,
//! `▁` or other alphabets, is *isolated*; the rest is joined to the second group. Joining groups
//! only loses cuts, so it is safe.

use crate::vocabulary::{PieceKind, Vocabulary};

/// The classes of a vocabulary, and which of them never meet.
#[derive(Debug, Clone)]
pub(crate) struct ByteClasses {
    /// For each ASCII character, its class.
    pub(crate) ascii: [Class; 128],
    /// Whether no piece holds a character of the one class and then one of the other.
    pub(crate) apart: Apart,
    /// Characters beyond ASCII that stand beside some other character (or themselves) in a piece.
    social: Box<[u64; 1024]>,
}

/// The class of an ASCII character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// U+0020, which stands for `▁`.
    Space,
    /// The largest group: letters, as a rule.
    First,
    /// All others: punctuation, as a rule.
    Second,
    /// Characters that stand beside nothing: digits and controls, as a rule.
    Isolated,
}

/// Pairs of classes, left and right, that no piece holds side by side. `other` is non-ASCII.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Apart {
    pub(crate) space_first: bool,
    pub(crate) space_second: bool,
    pub(crate) space_other: bool,
    pub(crate) first_other: bool,
    pub(crate) other_first: bool,
    pub(crate) second_other: bool,
    pub(crate) other_second: bool,
}

/// The column and row of non-ASCII characters in the adjacency.
const OTHER: usize = 128;

impl ByteClasses {
    /// The classes of a vocabulary's normal pieces.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        // Characters as 0..128, `▁` as the space that stands for it in text, all others as one.
        let node = |c: char| match c {
            '▁' => usize::from(b' '),
            _ if c.is_ascii() => c as usize,
            _ => OTHER,
        };
        let mut follows = vec![[false; OTHER + 1]; OTHER + 1];
        let mut social = Box::new([0u64; 1024]);
        for piece in vocabulary.pieces().iter().filter(|piece| piece.kind == PieceKind::Normal) {
            if piece.text.contains(' ') {
                continue;
            }
            for (left, right) in piece.text.chars().zip(piece.text.chars().skip(1)) {
                follows[node(left)][node(right)] = true;
                for c in [left, right] {
                    let code = (c as usize).min(0xFFFF);
                    social[code / 64] |= 1 << (code % 64);
                }
            }
        }
        let space = usize::from(b' ');
        let mut group: Vec<usize> = (0..128).collect();
        let ascii = || (0..128).filter(|&c| c != space);
        for left in ascii() {
            for right in ascii().filter(|&right| follows[left][right]) {
                let (from, to) = (group[left].max(group[right]), group[left].min(group[right]));
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
            }
        }
        let size = |g: usize| ascii().filter(|&c| group[c] == g).count();
        let alone = |c: usize| (0..=OTHER).all(|other| !follows[c][other] && !follows[other][c]);
        let largest = ascii().map(|c| group[c]).max_by_key(|&g| size(g)).unwrap_or(0);
        let mut classes = [Class::Second; 128];
        classes[space] = Class::Space;
        for c in ascii() {
            if group[c] == largest {
                classes[c] = Class::First;
            } else if alone(c) {
                classes[c] = Class::Isolated;
            }
        }
        let of = |class: Class| ascii().filter(move |&c| classes[c] == class).collect::<Vec<_>>();
        let (first, second) = (of(Class::First), of(Class::Second));
        let never =
            |left: &[usize], right: &[usize]| left.iter().all(|&l| right.iter().all(|&r| !follows[l][r]));
        let apart = Apart {
            space_first: never(&[space], &first),
            space_second: never(&[space], &second),
            space_other: never(&[space], &[OTHER]),
            first_other: never(&first, &[OTHER]),
            other_first: never(&[OTHER], &first),
            second_other: never(&second, &[OTHER]),
            other_second: never(&[OTHER], &second),
        };
        Self { ascii: classes, apart, social }
    }

    /// Whether the classes show that no piece holds the two side by side. Neither is a space.
    pub(crate) fn are_apart(&self, left: char, right: char) -> bool {
        let class = |c: char| self.ascii.get(c as usize).copied();
        let is_alone = |c: char| class(c).map_or(!self.is_social(c), |class| class == Class::Isolated);
        let apart = self.apart;
        is_alone(left)
            || is_alone(right)
            || match (class(left), class(right)) {
                (Some(left), Some(right)) => left != right,
                (Some(Class::First), None) => apart.first_other,
                (Some(_), None) => apart.second_other,
                (None, Some(Class::First)) => apart.other_first,
                (None, Some(_)) => apart.other_second,
                (None, None) => false,
            }
    }

    /// Whether a character beyond ASCII stands beside another one in some piece. (Those beyond the
    /// basic plane share one answer.)
    #[inline]
    pub(crate) fn is_social(&self, c: char) -> bool {
        let code = (c as usize).min(0xFFFF);
        self.social[code / 64] >> (code % 64) & 1 == 1
    }
}
