//! What the elements of a weight may be.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use half::f16;

/// The elements of a weight, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// In float16.
    Half(&'a [f16]),
    /// In float32.
    Full(&'a [f32]),
}

impl Weights<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Half(weights) => weights.len(),
            Self::Full(weights) => weights.len(),
        }
    }
}

/// An element of a weight, and how to make vectors of it.
pub trait Weight: Copy + Send + Sync + 'static {
    const ZERO: Self;

    fn widen(self) -> f32;

    /// The 16 elements from there on.
    ///
    /// # Safety
    /// They may be read, and the processor has AVX-512 F, BW and VL.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16(from: *const Self) -> __m512;

    /// Those of the 16 elements from there on that are in the mask, and zeros.
    ///
    /// # Safety
    /// They may be read, and the processor has AVX-512 F, BW and VL.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16_masked(from: *const Self, mask: u16) -> __m512;

    /// The 8 elements from there on.
    ///
    /// # Safety
    /// They may be read, and the processor has AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(from: *const Self) -> __m256;
}

impl Weight for f16 {
    const ZERO: Self = f16::ZERO;

    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load16(from: *const Self) -> __m512 {
        // SAFETY: the caller's.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load16_masked(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load8(from: *const Self) -> __m256 {
        // SAFETY: the caller's.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
    }
}

impl Weight for f32 {
    const ZERO: Self = 0.0;

    fn widen(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load16(from: *const Self) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load16_masked(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load8(from: *const Self) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(from) }
    }
}
