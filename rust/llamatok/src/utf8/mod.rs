//! The UTF-8 of code points, as languages with text of fixed width hand them out.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod store;

use std::sync::OnceLock;

use crate::bpe::scan::Level;
use store::Store;

/// The most bytes that a code point takes.
const WIDTH: usize = 4;
/// What may be written beyond them, in vectors.
const SPARE: usize = 64;

/// Makes UTF-8 of code points, and keeps it as long as it lives; for one thread at a time.
///
/// With the instructions that [`is_fast`](Self::is_fast) looks for, 16 code points at a time are narrowed if
/// they are ASCII; of others all four bytes that there may be are made, and those that hold moved together.
#[derive(Debug, Default)]
pub struct Utf8Encoder {
    store: Store,
}

impl Utf8Encoder {
    /// Whether this processor has the instructions (AVX-512 with VBMI2) that make it two to three times as
    /// fast as encoding code points one by one. Without them it takes about as long as that.
    pub fn is_fast() -> bool {
        !matches!(Way::best(), Way::Scalar)
    }

    /// The text of code points; `None` if one of them is a surrogate or above U+10FFFF, or there is no
    /// memory for it.
    ///
    /// # Examples
    /// ```
    /// let encoder = llamatok::Utf8Encoder::default();
    /// let text = encoder.encode(&[0x4C, 0xE4, 0x20AC, 0x1F999]);
    /// assert_eq!(encoder.encode(&[0xD800]), None);
    /// assert_eq!(text, Some("Lä€🦙"));
    /// ```
    pub fn encode(&self, code_points: &[u32]) -> Option<&str> {
        let room = code_points.len().checked_mul(WIDTH)?.checked_add(SPARE)?;
        let utf8 = self.store.fill(room, |bytes| Way::best().encode(code_points, bytes))?;
        // SAFETY: all ways write the shortest form of each code point, and give nothing where one of them
        // is no Unicode scalar value.
        Some(unsafe { std::str::from_utf8_unchecked(utf8) })
    }

    /// Gives up all texts, and all memory but a piece of at most `bytes`: memory that has been used before
    /// is filled faster.
    pub fn clear(&mut self, bytes: usize) {
        self.store.clear(bytes);
    }
}

/// How to encode; holding one other than `Scalar` proves that the processor has its instructions.
#[derive(Debug, Clone, Copy)]
enum Way {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Way {
    /// The best way of this processor, below what `LLAMATOK_SIMD` asks for.
    fn best() -> Self {
        static BEST: OnceLock<Way> = OnceLock::new();
        *BEST.get_or_init(|| Self::available(Level::detect())[0])
    }

    /// The ways that go with a level, the best first.
    fn available(level: Level) -> Vec<Self> {
        let mut ways = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if level == Level::Avx512 && is_x86_feature_detected!("avx512vbmi2") {
            ways.push(Self::Avx512);
        }
        let _ = level;
        ways.push(Self::Scalar);
        ways
    }

    fn encode(self, code_points: &[u32], bytes: &mut [u8]) -> Option<usize> {
        match self {
            Self::Scalar => encode(code_points, bytes),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the way proves that the processor has the instructions.
            Self::Avx512 => unsafe { avx512::encode(code_points, bytes) },
        }
    }
}

/// Writes the UTF-8 of code points, and tells where it ends; `None` if one of them is no Unicode scalar
/// value. `bytes` has room for [`WIDTH`] bytes of each and for [`SPARE`] more.
fn encode(code_points: &[u32], bytes: &mut [u8]) -> Option<usize> {
    let mut end = 0;
    for &code_point in code_points {
        end += char::from_u32(code_point)?.encode_utf8(&mut bytes[end..]).len();
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(code_points: &[u32]) {
        let expected: Option<String> =
            code_points.iter().map(|&code_point| char::from_u32(code_point)).collect();
        for way in Way::available(Level::available()[0]) {
            let mut bytes = vec![0xAA; WIDTH * code_points.len() + SPARE];
            let found = way.encode(code_points, &mut bytes).map(|end| &bytes[..end]);
            assert_eq!(found, expected.as_deref().map(str::as_bytes), "{way:?}: {code_points:x?}");
        }
        assert_eq!(Utf8Encoder::default().encode(code_points), expected.as_deref());
    }

    #[test]
    fn every_code_point_at_every_place() {
        let all: Vec<u32> =
            (0..0x11_0000).filter(|code_point| !(0xD800..0xE000).contains(code_point)).collect();
        check(&all);
        let edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x1_0000, 0x10_FFFF];
        for (edge, neighbour) in
            edges.into_iter().flat_map(|edge| [0x61, 0xE9, 0x4E00, 0x1F999].map(|n| (edge, n)))
        {
            for length in 1..40 {
                for place in 0..length {
                    let mut code_points = vec![neighbour; length];
                    code_points[place] = edge;
                    check(&code_points);
                }
            }
        }
    }

    #[test]
    fn all_lengths_side_by_side() {
        for lengths in 0..1 << 8 {
            let of = |place: u32| [0x61, 0xE9, 0x4E00, 0x1F999][lengths >> (2 * place) & 3];
            check(&(0..32).map(|place| of(place % 4)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_scalar_value_is_refused_at_every_place() {
        for wrong in [0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0x11_0000, 0x8000_0000, u32::MAX] {
            for length in 1..40 {
                for place in 0..length {
                    let mut code_points = vec![0xE9; length];
                    code_points[place] = wrong;
                    check(&code_points);
                }
            }
        }
        check(&[]);
    }

    #[test]
    fn texts_last_as_long_as_the_encoder() {
        let encoder = Utf8Encoder::default();
        let texts =
            ["🦙".repeat(100), "aé".into(), String::new(), "中".repeat(100_000), "b".repeat(3_000_000)];
        let encoded: Vec<_> = (texts.iter().cycle().take(50))
            .map(|text| encoder.encode(&text.chars().map(u32::from).collect::<Vec<_>>()))
            .collect();
        assert!(encoded.into_iter().eq(texts.iter().cycle().take(50).map(|text| Some(text.as_str()))));
    }

    #[test]
    fn memory_is_used_again() {
        let mut encoder = Utf8Encoder::default();
        let llama: Vec<u32> = "🦙 Lama".chars().map(u32::from).collect();
        for bytes in [0, 1 << 10, 1 << 20, 1 << 30] {
            let texts: Vec<_> = (1..200).map(|times| encoder.encode(&llama.repeat(times))).collect();
            for (times, text) in (1..200).zip(texts) {
                assert_eq!(text, Some("🦙 Lama".repeat(times).as_str()));
            }
            encoder.clear(bytes);
        }
    }

    proptest! {
        #[test]
        fn as_the_standard_library(text in prop_oneof!["[a-zà-ÿ ]{0,90}", "[а-я一-龠🀀-🫸 ]{0,90}", "\\PC{0,90}"]) {
            check(&text.chars().map(u32::from).collect::<Vec<_>>());
        }
    }
}
