//! The product with AVX-512, 16 weights at a time.

// Two indices tell more than iterators over arrays of arrays.
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use crate::kernel::{Part, Tile};
use crate::weight::Weight;

/// Inputs in a vector.
const LANES: usize = 16;
/// Rows of the weight in a tile, and the most rows of `x`: 16 of the 32 registers hold sums.
const WEIGHTS: usize = 4;
const ROWS: usize = 4;

/// All columns of a part.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn compute<W: Weight>(part: &Part<'_, W>) {
    for output in (0..part.outputs).step_by(WEIGHTS) {
        for row in (0..part.rows).step_by(ROWS) {
            let whole = part.outputs - output >= WEIGHTS;
            match (whole, (part.rows - row).min(ROWS)) {
                (true, 4) => tile::<W, WEIGHTS, 4>(part, output, row),
                (true, 3) => tile::<W, WEIGHTS, 3>(part, output, row),
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn tile<W: Weight, const N: usize, const M: usize>(part: &Part<'_, W>, output: usize, row: usize) {
    let Tile { inputs, weights, xs } = part.tile::<N, M>(output, row);
    let mut sums = [[_mm512_setzero_ps(); M]; N];
    let whole = inputs - inputs % LANES;
    for at in (0..whole).step_by(LANES) {
        let mut wide = [_mm512_setzero_ps(); N];
        for n in 0..N {
            // SAFETY: at + LANES <= inputs, the length of every row.
            wide[n] = unsafe { load(weights[n].add(at), N * inputs) };
        }
        for m in 0..M {
            // SAFETY: as above.
            let x = unsafe { _mm512_loadu_ps(xs[m].add(at)) };
            for n in 0..N {
                sums[n][m] = _mm512_fmadd_ps(wide[n], x, sums[n][m]);
            }
        }
    }
    if whole < inputs {
        let mask = (1 << (inputs - whole)) - 1;
        for n in 0..N {
            let last = weights[n].wrapping_add(whole);
            // SAFETY: the mask lets only the last inputs - whole elements of the row be read.
            let wide = unsafe { W::load16_masked(last, mask) };
            for m in 0..M {
                // SAFETY: as above.
                let x = unsafe { _mm512_maskz_loadu_ps(mask, xs[m].add(whole)) };
                sums[n][m] = _mm512_fmadd_ps(wide, x, sums[n][m]);
            }
        }
    }
    for n in 0..N {
        for m in 0..M {
            part.put(row + m, output + n, _mm512_reduce_add_ps(sums[n][m]));
        }
    }
}

/// A vector of weights, `ahead` of which lie those of the next tile.
///
/// # Safety
/// `from` must point to a vector's number of weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load<W: Weight>(from: *const W, ahead: usize) -> __m512 {
    // SAFETY: a prefetch may be given any address; the rest is the caller's.
    unsafe {
        // Rows are too short for the processor to foresee where the next tile starts.
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast());
        W::load16(from)
    }
}

/// Calls `f`, compiled for these instructions where it is inlined.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn with<R>(f: impl FnOnce() -> R) -> R {
    f()
}
