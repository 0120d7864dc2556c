//! The masks on x86-64.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Masks, Scanner, BLOCK, FIRST_WIDE, HIGH};

impl Scanner {
    #[target_feature(enable = "ssse3,sse4.1,sse4.2,popcnt")]
    pub(super) unsafe fn units_sse42(&self, buffer: &[u8], range: Range<usize>, starts: &mut Vec<u32>) {
        // SAFETY: unaligned loads of 16 bytes from arrays of 16.
        let [first, isolated, high] = [&self.tables.first, &self.tables.isolated, &HIGH]
            .map(|table| unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
        let nibble = _mm_set1_epi8(15);
        let bits = |mask: __m128i| u64::from(_mm_movemask_epi8(mask) as u16);
        self.units_by(buffer, range, starts, |block: &[u8; BLOCK]| {
            let mut masks = Masks::default();
            for (index, part) in block.chunks_exact(16).enumerate() {
                // SAFETY: an unaligned load of 16 bytes from a slice of 16.
                let bytes = unsafe { _mm_loadu_si128(part.as_ptr().cast()) };
                let low = _mm_and_si128(bytes, nibble);
                let row = _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibble));
                let member = |table: __m128i| {
                    let hit = _mm_and_si128(_mm_shuffle_epi8(table, low), row);
                    bits(_mm_cmpeq_epi8(hit, _mm_setzero_si128())) ^ 0xFFFF
                };
                let wide = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(FIRST_WIDE as i8)), bytes);
                masks.space |= bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b' ' as i8))) << (16 * index);
                masks.first |= member(first) << (16 * index);
                masks.isolated |= member(isolated) << (16 * index);
                masks.other |= bits(bytes) << (16 * index);
                masks.wide |= bits(wide) << (16 * index);
            }
            masks
        });
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) unsafe fn units_avx2(&self, buffer: &[u8], range: Range<usize>, starts: &mut Vec<u32>) {
        // SAFETY: unaligned loads of 16 bytes from arrays of 16.
        let [first, isolated, high] = [&self.tables.first, &self.tables.isolated, &HIGH]
            .map(|table| _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) }));
        let nibble = _mm256_set1_epi8(15);
        let half = |bytes: __m256i| {
            let low = _mm256_and_si256(bytes, nibble);
            let row = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble));
            let member = |table: __m256i| {
                let hit = _mm256_and_si256(_mm256_shuffle_epi8(table, low), row);
                !(_mm256_movemask_epi8(_mm256_cmpeq_epi8(hit, _mm256_setzero_si256())) as u32)
            };
            Masks {
                space: u64::from(
                    _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b' ' as i8))) as u32,
                ),
                first: u64::from(member(first)),
                isolated: u64::from(member(isolated)),
                other: u64::from(_mm256_movemask_epi8(bytes) as u32),
                wide: u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(
                    _mm256_max_epu8(bytes, _mm256_set1_epi8(FIRST_WIDE as i8)),
                    bytes,
                )) as u32),
            }
        };
        self.units_by(buffer, range, starts, |block: &[u8; BLOCK]| {
            // SAFETY: two unaligned loads of 32 bytes from an array of 64.
            let (low, high) = unsafe {
                (_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(32).cast()))
            };
            let (low, high) = (half(low), half(high));
            Masks {
                space: low.space | high.space << 32,
                first: low.first | high.first << 32,
                isolated: low.isolated | high.isolated << 32,
                other: low.other | high.other << 32,
                wide: low.wide | high.wide << 32,
            }
        });
    }

    #[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) unsafe fn units_avx512(&self, buffer: &[u8], range: Range<usize>, starts: &mut Vec<u32>) {
        // SAFETY: unaligned loads of 16 bytes from arrays of 16.
        let [first, isolated, high] = [&self.tables.first, &self.tables.isolated, &HIGH]
            .map(|table| _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) }));
        let nibble = _mm512_set1_epi8(15);
        self.units_by(buffer, range, starts, |block: &[u8; BLOCK]| {
            // SAFETY: an unaligned load of 64 bytes from an array of 64.
            let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            let low = _mm512_and_si512(bytes, nibble);
            let row = _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble));
            Masks {
                space: _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b' ' as i8)),
                first: _mm512_test_epi8_mask(_mm512_shuffle_epi8(first, low), row),
                isolated: _mm512_test_epi8_mask(_mm512_shuffle_epi8(isolated, low), row),
                other: _mm512_movepi8_mask(bytes),
                wide: _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(FIRST_WIDE as i8)),
            }
        });
    }
}
