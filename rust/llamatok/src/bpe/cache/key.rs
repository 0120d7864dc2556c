//! The texts of units as words, and their hashes.

/// The longest unit that the short table holds, in bytes.
pub(crate) const SHORT: usize = 15;
/// The longest unit that the long table holds, in bytes.
pub(crate) const LONG: usize = 31;

/// A unit of at most `8 N - 1` bytes: its text, padded with zeros, with its length in the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key<const N: usize>(pub(super) [u64; N]);

/// The key of a unit of at most [`SHORT`] bytes.
pub(crate) type ShortKey = Key<2>;
/// The key of a unit of at most [`LONG`] bytes.
pub(crate) type LongKey = Key<4>;

/// As many bytes as the longest key has, to be kept, and as many to be cleared.
const KEEP: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut index = 0;
    while index < 32 {
        bytes[index] = u8::MAX;
        index += 1;
    }
    bytes
};

const MIX: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];

impl<const N: usize> Default for Key<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Key<N> {
    /// The key of the unit `buffer[start..start + len]`, after which `buffer` goes on for `8 N` bytes.
    #[inline(always)]
    pub(crate) fn new(buffer: &[u8], start: usize, len: usize) -> Self {
        let text = &buffer[start..start + 8 * N];
        let keep = &KEEP[32 - len..][..8 * N];
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            let part =
                |bytes: &[u8]| bytes[8 * index..8 * index + 8].try_into().map_or(0, u64::from_le_bytes);
            *word = part(text) & part(keep);
        }
        words[N - 1] |= (len as u64) << 56;
        Self(words)
    }

    #[cfg(test)]
    pub(super) fn of_words(words: [u64; N]) -> Self {
        Self(words)
    }

    /// 32 bits that depend on all of the key.
    #[inline(always)]
    pub(super) fn hash(&self) -> u32 {
        let mut hash = 0u64;
        for pair in self.0.chunks_exact(2) {
            let high = pair[1].wrapping_mul(MIX[1]);
            hash = (hash ^ hash >> 32 ^ pair[0] ^ high ^ high >> 32).wrapping_mul(MIX[0]);
        }
        (hash >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_tell_texts_apart(a in "[a\0]{0,15}", b in "[a\0]{0,15}", c in "[a\0]{0,31}", d in "[a\0]{0,31}") {
            let pad = |text: &str| [text.as_bytes(), &[b'x'; 40]].concat();
            prop_assert_eq!(ShortKey::new(&pad(&a), 0, a.len()) == ShortKey::new(&pad(&b), 0, b.len()), a == b);
            prop_assert_eq!(LongKey::new(&pad(&c), 0, c.len()) == LongKey::new(&pad(&d), 0, d.len()), c == d);
        }
    }
}
