//! Finds cuts in text, 64 bytes at a time.
//!
//! The result is a bit for each byte: whether a unit begins there. SIMD only makes the classes of
//! bytes into bit masks; the rest is the same for all. [`Level::Scalar`] is the specification, and the
//! tests compare the others with it.

mod level;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

pub(crate) use self::level::Level;
use super::classes::{ByteClasses, Class};

/// How many bytes a block has.
pub(crate) const BLOCK: usize = 64;

/// A bit for each byte of a block, the first byte in the lowest bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Masks {
    space: u64,
    first: u64,
    isolated: u64,
    other: u64,
    /// First bytes of characters of three and four bytes.
    wide: u64,
}

/// A scanner for one vocabulary.
#[derive(Debug)]
pub(crate) struct Scanner {
    level: Level,
    classes: ByteClasses,
    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
    tables: Tables,
    /// Whether the last space of a run is cut off from the others.
    cuts_runs: bool,
    /// For each byte a bit for its class, none for [`Class::Second`].
    class_bits: Box<[u8; 256]>,
}

/// Sets of ASCII characters for look-ups by shuffle: character `c` is in the set if bit `c >> 4` of
/// entry `c & 15` is set.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
#[derive(Debug, Clone, Copy)]
struct Tables {
    first: [u8; 16],
    isolated: [u8; 16],
}

/// For each high nibble, the bit that stands for it in the tables; none beyond ASCII.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
const HIGH: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
impl Tables {
    fn new(classes: &ByteClasses) -> Self {
        let set = |class: Class| {
            let mut table = [0u8; 16];
            for (c, _) in classes.ascii.iter().enumerate().filter(|(_, &of)| of == class) {
                table[c & 15] |= 1 << (c >> 4);
            }
            table
        };
        Self { first: set(Class::First), isolated: set(Class::Isolated) }
    }
}

/// What the last bytes of a block mean for the next one: masks of one bit.
#[derive(Debug, Clone, Copy, Default)]
struct Carry {
    space: u64,
    first: u64,
    second: u64,
    isolated: u64,
    other: u64,
}

impl Scanner {
    pub(crate) fn new(level: Level, classes: ByteClasses) -> Self {
        let class_bits = std::array::from_fn(|byte| match classes.ascii.get(byte) {
            Some(Class::Space) => 1 << SPACE_BIT,
            Some(Class::First) => 1 << FIRST_BIT,
            Some(Class::Isolated) => 1 << ISOLATED_BIT,
            Some(Class::Second) => 0,
            None if byte < usize::from(FIRST_WIDE) => 1 << OTHER_BIT,
            None => 1 << OTHER_BIT | 1 << WIDE_BIT,
        });
        Self {
            level,
            #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
            tables: Tables::new(&classes),
            classes,
            class_bits: Box::new(class_bits),
            cuts_runs: true,
        }
    }

    /// Leaves runs of spaces, and the words after them, in one unit.
    pub(crate) fn joining_runs(self) -> Self {
        Self { cuts_runs: false, ..self }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn classes(&self) -> &ByteClasses {
        &self.classes
    }

    /// Appends to `starts` where the units of the text `buffer[range]` begin, and at last where it ends. The
    /// text must be valid UTF-8, with a zero and no less than a block of whatever it be behind it.
    pub(crate) fn units(&self, buffer: &[u8], range: Range<usize>, starts: &mut Vec<u32>) {
        assert!(buffer.len() >= range.end + BLOCK && range.end < u32::MAX as usize - BLOCK);
        // A unit for each byte, one for the end, and the slack of whole blocks.
        starts.reserve(range.len() + 2 * BLOCK);
        let end = range.end as u32;
        match self.level {
            Level::Scalar => self.units_by(buffer, range, starts, |block| self.masks_scalar(block)),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::detect` gives this level only where the processor has SSSE3, SSE4 and POPCNT.
            Level::Sse42 => unsafe { self.units_sse42(buffer, range, starts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::detect` gives this level only where the processor has AVX2, BMI, LZCNT and POPCNT.
            Level::Avx2 => unsafe { self.units_avx2(buffer, range, starts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::detect` gives this level only where the processor has AVX-512BW and what AVX2's asks for.
            Level::Avx512 => unsafe { self.units_avx512(buffer, range, starts) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            // SAFETY: `Level::detect` gives this level only where the processor has NEON.
            Level::Neon => unsafe { self.units_neon(buffer, range, starts) },
        }
        starts.push(end);
    }

    #[inline(always)]
    fn units_by(
        &self,
        buffer: &[u8],
        range: Range<usize>,
        starts: &mut Vec<u32>,
        masks: impl Fn(&[u8; BLOCK]) -> Masks,
    ) {
        let mut carry = Carry::default();
        // Cuts that a character at the end of a block makes in the next one.
        let mut spill = 0u64;
        for (index, block) in buffer[range.start..].chunks_exact(BLOCK).enumerate() {
            let start = range.start + index * BLOCK;
            if start >= range.end {
                break;
            }
            let block: &[u8; BLOCK] = block.try_into().unwrap_or(&[0; BLOCK]);
            let masks = masks(block);
            let next_is_space = u64::from(buffer.get(start + BLOCK) == Some(&b' '));
            let mut cuts = self.cuts(masks, next_is_space, &mut carry) | spill;
            spill = 0;
            if masks.wide != 0 {
                let (here, next) = self.cuts_around_wide(buffer, start, masks.wide);
                cuts |= here;
                spill = next;
            }
            if index == 0 {
                cuts |= 1;
            }
            if range.end - start < BLOCK {
                cuts &= (1 << (range.end - start)) - 1;
            }
            push_bits(cuts, start as u32, starts);
        }
    }

    /// The cuts that classes show.
    #[inline(always)]
    fn cuts(&self, masks: Masks, next_is_space: u64, carry: &mut Carry) -> u64 {
        let Masks { space, first, isolated, other, .. } = masks;
        let second = !(space | first | isolated | other);
        let before = |mask: u64, carry: &mut u64| {
            let shifted = mask << 1 | *carry;
            *carry = mask >> 63;
            shifted
        };
        let space_before = before(space, &mut carry.space);
        let first_before = before(first, &mut carry.first);
        let second_before = before(second, &mut carry.second);
        let isolated_before = before(isolated, &mut carry.isolated);
        let other_before = before(other, &mut carry.other);
        let space_after = space >> 1 | next_is_space << 63;
        let apart = self.classes.apart;
        let only_if = |condition: bool, mask: u64| if condition { mask } else { 0 };
        // A run begins; or its last space, which goes with the word.
        (space & !space_before)
            | only_if(self.cuts_runs, space & space_before & !space_after)
            | isolated
            | isolated_before
            | (first & second_before)
            | (second & first_before)
            | only_if(apart.space_first, first & space_before)
            | only_if(apart.space_second, second & space_before)
            | only_if(apart.space_other, other & space_before)
            | only_if(apart.first_other, other & first_before)
            | only_if(apart.other_first, first & other_before)
            | only_if(apart.second_other, other & second_before)
            | only_if(apart.other_second, second & other_before)
    }

    /// Cuts around characters of three and four bytes that stand beside nothing in any piece: in this
    /// block, and in the next one. (Words in alphabets of two bytes are whole units.)
    #[inline(always)]
    fn cuts_around_wide(&self, buffer: &[u8], start: usize, mut wide: u64) -> (u64, u64) {
        let mut cuts = 0u128;
        while wide != 0 {
            let index = wide.trailing_zeros() as usize;
            wide &= wide - 1;
            let bytes = &buffer[start + index..];
            let first = u32::from(bytes[0]);
            let tail = |index: usize| u32::from(bytes.get(index).copied().unwrap_or(0) & 0x3F);
            let (code, len) = if first < 0xF0 {
                ((first & 0xF) << 12 | tail(1) << 6 | tail(2), 3)
            } else {
                ((first & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4)
            };
            if !self.classes.is_social(char::from_u32(code).unwrap_or('\0')) {
                cuts |= (1 | 1 << len) << index;
            }
        }
        (cuts as u64, (cuts >> 64) as u64)
    }

    /// Eight bytes at a time: the class bits of each from a table, next to each other in a word, and
    /// then one bit of all eight gathered by a multiplication.
    fn masks_scalar(&self, block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks::default();
        for (index, bytes) in block.chunks_exact(8).enumerate() {
            let mut classes = [0; 8];
            for (class, &byte) in classes.iter_mut().zip(bytes) {
                *class = self.class_bits[usize::from(byte)];
            }
            let classes = u64::from_le_bytes(classes);
            let gather = |bit: u32| {
                // Bit 8k of the first factor times bit 56 - 7k of the second one is bit 56 + k; and no
                // other two of their bits meet there, nor carry into it.
                let ones = classes >> bit & 0x0101_0101_0101_0101;
                ones.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * index)
            };
            masks.space |= gather(SPACE_BIT);
            masks.first |= gather(FIRST_BIT);
            masks.isolated |= gather(ISOLATED_BIT);
            masks.other |= gather(OTHER_BIT);
            masks.wide |= gather(WIDE_BIT);
        }
        masks
    }
}

const SPACE_BIT: u32 = 0;
const FIRST_BIT: u32 = 1;
const ISOLATED_BIT: u32 = 2;
const OTHER_BIT: u32 = 3;
const WIDE_BIT: u32 = 4;

/// The least first byte of a character of three bytes.
const FIRST_WIDE: u8 = 0xE0;

/// Appends the places of the bits of `mask`, counted from `base`.
#[inline(always)]
fn push_bits(mut mask: u64, base: u32, starts: &mut Vec<u32>) {
    let count = mask.count_ones() as usize;
    let room = starts.spare_capacity_mut();
    debug_assert!(room.len() >= BLOCK);
    let mut written = 0;
    // Eight at a time without a branch between; what is written beyond `count` is overwritten later.
    while written < count {
        for slot in &mut room[written..written + 8] {
            slot.write(base + mask.trailing_zeros());
            mask &= mask.wrapping_sub(1);
        }
        written += 8;
    }
    // SAFETY: the loop has written at least `count` elements, and `room` was there for them.
    unsafe { starts.set_len(starts.len() + count) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cuts::Adjacency;
    use super::*;
    use crate::vocabulary::{Piece, PieceKind, Vocabulary};

    fn vocabulary(texts: &[&str]) -> Vocabulary {
        let unk = Piece { text: "<unk>".into(), score: 0.0, kind: PieceKind::Unknown };
        let pieces =
            texts.iter().map(|text| Piece { text: (*text).into(), score: 0.0, kind: PieceKind::Normal });
        Vocabulary::new(std::iter::once(unk).chain(pieces).collect(), false).unwrap()
    }

    /// The masks by the letter of their definition.
    fn masks_by_class(classes: &ByteClasses, block: &[u8; BLOCK]) -> Masks {
        let mask = |of: Option<Class>| {
            let bits = block.iter().enumerate().map(|(index, &byte)| {
                u64::from(classes.ascii.get(usize::from(byte)).copied() == of) << index
            });
            bits.sum()
        };
        Masks {
            space: mask(Some(Class::Space)),
            first: mask(Some(Class::First)),
            isolated: mask(Some(Class::Isolated)),
            other: mask(None),
            wide: (0..).zip(block).map(|(index, &byte)| u64::from(byte >= FIRST_WIDE) << index).sum(),
        }
    }

    proptest! {
        #[test]
        fn masks_are_those_of_the_classes(block in prop::collection::vec(any::<u8>(), BLOCK)) {
            let classes = ByteClasses::new(&vocabulary(&["ab", "..", "▁a", "é"]));
            let block: [u8; BLOCK] = block.try_into().unwrap();
            let scanner = Scanner::new(Level::Scalar, classes.clone());
            prop_assert_eq!(scanner.masks_scalar(&block), masks_by_class(&classes, &block));
        }

        #[test]
        fn levels_agree_and_cuts_are_allowed(
            text in "([ab1. \n]|[éß中文🦙”’]|  ){0,300}",
            pieces in prop::sample::subsequence(
                vec!["ab", "ba", "bé", "▁a", "é▁".trim_end_matches('▁'), "..", ".”", "▁.", "中文", "▁中", "1a", "▁1", "🦙🦙", "aa", "\n\n"], 1..15),
        ) {
            let vocabulary = vocabulary(&pieces);
            let adjacency = Adjacency::new(&vocabulary);
            let mut buffer = text.clone().into_bytes();
            buffer.resize(buffer.len() + 2 * BLOCK, 0);
            let mut expected = Vec::new();
            Scanner::new(Level::Scalar, ByteClasses::new(&vocabulary)).units(&buffer, 0..text.len(), &mut expected);
            for level in Level::available() {
                let mut starts = Vec::new();
                Scanner::new(level, ByteClasses::new(&vocabulary)).units(&buffer, 0..text.len(), &mut starts);
                prop_assert_eq!(&starts, &expected, "{}", level.name());
                // Behind another text.
                let buffer = ["ab ".as_bytes(), &buffer].concat();
                Scanner::new(level, ByteClasses::new(&vocabulary)).units(&buffer, 3..3 + text.len(), &mut starts);
                let behind: Vec<u32> = starts[expected.len()..].iter().map(|start| start - 3).collect();
                prop_assert_eq!(&behind, &expected, "{}", level.name());
            }
            for &start in expected.iter().filter(|&&start| start > 0 && (start as usize) < text.len()) {
                prop_assert!(text.is_char_boundary(start as usize));
                let (before, after) = text.split_at(start as usize);
                let (left, right) = (before.chars().next_back().unwrap(), after.chars().next().unwrap());
                // The two cuts at runs of spaces have a proof of their own.
                if right != ' ' {
                    let symbol = |c: char| if c == ' ' { '▁' } else { c };
                    prop_assert!(!adjacency.contains(symbol(left), symbol(right)), "{left:?} {right:?}");
                }
            }
        }
    }
}
