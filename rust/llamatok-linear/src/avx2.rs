//! The product with AVX2, FMA and F16C, 8 weights at a time.

// Two indices tell more than iterators over arrays of arrays.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use crate::kernel::{Part, Tile};
use crate::weight::Weight;

/// Inputs in a vector.
const LANES: usize = 8;
/// Rows of the weight in a tile, and the most rows of `x`: 8 of the 16 registers hold sums.
const WEIGHTS: usize = 4;
const ROWS: usize = 2;

/// All columns of a part.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn compute<W: Weight>(part: &Part<'_, W>) {
    for output in (0..part.outputs).step_by(WEIGHTS) {
        for row in (0..part.rows).step_by(ROWS) {
            let whole = part.outputs - output >= WEIGHTS;
            match (whole, (part.rows - row).min(ROWS)) {
                (true, 2) => tile::<W, WEIGHTS, 2>(part, output, row),
                (true, _) => tile::<W, WEIGHTS, 1>(part, output, row),
                (false, rows) => {
                    for output in output..part.outputs {
                        (row..row + rows).for_each(|row| tile::<W, 1, 1>(part, output, row));
                    }
                }
            }
        }
    }
}

/// The sums for `N` rows of the weight from `output` on and `M` rows of `x` from `row` on.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<W: Weight, const N: usize, const M: usize>(part: &Part<'_, W>, output: usize, row: usize) {
    let Tile { inputs, weights, xs } = part.tile::<N, M>(output, row);
    let mut sums = [[_mm256_setzero_ps(); M]; N];
    let whole = inputs - inputs % LANES;
    for at in (0..whole).step_by(LANES) {
        let mut wide = [_mm256_setzero_ps(); N];
        for n in 0..N {
            // SAFETY: at + LANES <= inputs, the length of every row.
            wide[n] = unsafe { load(weights[n].add(at), N * inputs) };
        }
        for m in 0..M {
            // SAFETY: as above.
            let x = unsafe { _mm256_loadu_ps(xs[m].add(at)) };
            for n in 0..N {
                sums[n][m] = _mm256_fmadd_ps(wide[n], x, sums[n][m]);
            }
        }
    }
    if whole < inputs {
        for n in 0..N {
            let wide = last_weights(&part.weight_row(output + n)[whole..]);
            for m in 0..M {
                let x = last_inputs(&part.x_row(row + m)[whole..]);
                sums[n][m] = _mm256_fmadd_ps(wide, x, sums[n][m]);
            }
        }
    }
    for n in 0..N {
        for m in 0..M {
            part.put(row + m, output + n, sum(sums[n][m]));
        }
    }
}

/// A vector of weights, `ahead` of which lie those of the next tile.
///
/// # Safety
/// `from` must point to a vector's number of weights.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load<W: Weight>(from: *const W, ahead: usize) -> __m256 {
    // SAFETY: a prefetch may be given any address; the rest is the caller's.
    unsafe {
        // Rows are too short for the processor to foresee where the next tile starts.
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast());
        W::load8(from)
    }
}

/// Fewer than `LANES` weights, and zeros.
#[target_feature(enable = "avx2,fma,f16c")]
fn last_weights<W: Weight>(row: &[W]) -> __m256 {
    let mut padded = [W::ZERO; LANES];
    padded[..row.len()].copy_from_slice(row);
    // SAFETY: all of an array.
    unsafe { W::load8(padded.as_ptr()) }
}

/// Fewer than `LANES` inputs, and zeros.
#[target_feature(enable = "avx2,fma,f16c")]
fn last_inputs(row: &[f32]) -> __m256 {
    let mut padded = [0.0; LANES];
    padded[..row.len()].copy_from_slice(row);
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_ps(padded.as_ptr()) }
}

/// The sum of the eight.
#[target_feature(enable = "avx2,fma,f16c")]
fn sum(parts: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(parts), _mm256_extractf128_ps::<1>(parts));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Calls `f`, compiled for these instructions where it is inlined.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn with<R>(f: impl FnOnce() -> R) -> R {
    f()
}
