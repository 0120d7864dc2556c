//! Random numbers for BPE-dropout.

use std::hash::{BuildHasher, RandomState};

/// A generator (SplitMix64: Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator for text number `index` of a call with `seed`.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut random = Self(seed);
        let base = random.next();
        Self(base ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// A seed that nobody has chosen.
    pub(crate) fn any_seed() -> u64 {
        RandomState::new().hash_one(0u8)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    #[cfg(test)]
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (self.next() % u64::from(limit)) as u32
    }

    /// `true` with the given probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let mut random = Random::new(7, 0);
        for probability in [0.0, 0.1, 0.5, 1.0] {
            let count = (0..100_000).filter(|_| random.chance(probability)).count() as f64;
            assert!((count / 100_000.0 - probability).abs() < 0.01, "{probability}: {count}");
        }
    }

    #[test]
    fn texts_have_numbers_of_their_own() {
        let numbers: std::collections::HashSet<u64> =
            (0..1000).map(|index| Random::new(3, index).next()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
