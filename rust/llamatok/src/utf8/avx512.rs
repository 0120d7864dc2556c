//! The UTF-8 of code points with AVX-512, sixteen at a time.

use std::arch::x86_64::*;

/// As the scalar [`encode`](super::encode): the four bytes of each code point that its UTF-8 may have are
/// made side by side, and those that hold are moved together.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
pub(super) fn encode(code_points: &[u32], bytes: &mut [u8]) -> Option<usize> {
    let all = |bits: u32| _mm512_set1_epi32(bits as i32);
    let mut end = 0;
    let mut wrong = 0;
    for block in code_points.chunks(16) {
        let held = u16::MAX >> (16 - block.len());
        // SAFETY: the mask leaves out what lies behind the block.
        let points = unsafe { _mm512_maskz_loadu_epi32(held, block.as_ptr().cast()) };
        let place = &mut bytes[end..end + 64];
        let two = _mm512_cmpge_epu32_mask(points, all(0x80));
        if two == 0 {
            // SAFETY: 16 bytes into a slice of 64.
            unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(points)) };
            end += block.len();
            continue;
        }
        let three = _mm512_cmpge_epu32_mask(points, all(0x800));
        let four = _mm512_cmpge_epu32_mask(points, all(0x1_0000));
        wrong |= _mm512_cmpeq_epu32_mask(_mm512_and_si512(points, all(0xFFFF_F800)), all(0xD800))
            | _mm512_cmpgt_epu32_mask(points, all(0x10_FFFF));
        // The last byte of each is the highest of its four, the bytes before it lie below.
        let last = _mm512_slli_epi32::<24>(_mm512_and_si512(points, all(0x3F)));
        let third = _mm512_slli_epi32::<10>(_mm512_and_si512(points, all(0xFC0)));
        let second = _mm512_and_si512(_mm512_srli_epi32::<4>(points), all(0x3F00));
        let first = _mm512_srli_epi32::<18>(points);
        let spread = _mm512_or_si512(_mm512_or_si512(last, third), _mm512_or_si512(second, first));
        let by_length = |one: u32, of_two: u32, of_three: u32, of_four: u32| {
            let longer = _mm512_mask_mov_epi32(all(one), two, all(of_two));
            _mm512_mask_mov_epi32(_mm512_mask_mov_epi32(longer, three, all(of_three)), four, all(of_four))
        };
        let marks = by_length(0, 0x80C0_0000, 0x8080_E000, 0x8080_80F0);
        let forms = _mm512_mask_or_epi32(_mm512_slli_epi32::<24>(points), two, spread, marks);
        let holding = by_length(0xFF00_0000, 0xFFFF_0000, 0xFFFF_FF00, 0xFFFF_FFFF);
        let holding = _mm512_movepi8_mask(_mm512_maskz_mov_epi32(held, holding));
        // SAFETY: 64 bytes into a slice of 64.
        unsafe {
            _mm512_storeu_si512(place.as_mut_ptr().cast(), _mm512_maskz_compress_epi8(holding, forms));
        }
        end += holding.count_ones() as usize;
    }
    (wrong == 0).then_some(end)
}
