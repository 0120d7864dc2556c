//! Which instructions compute a product, and how it is parted among threads and tiles.

use std::ops::Range;
use std::sync::OnceLock;

use crate::shared::Shared;
use crate::threads::Phase;
use crate::weight::Weight;
use crate::{scalar, Shape, Threads};

#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// A set of instructions that the product is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// All levels of this processor, the best first; the last one runs everywhere.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Self(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                levels.push(Self(Kind::Avx2));
            }
        }
        levels.push(Self(Kind::Scalar));
        levels
    }

    /// The best level of this processor; the environment variable `LLAMATOK_SIMD` (`scalar`, `avx2`, `avx512`)
    /// asks for a lower one.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("LLAMATOK_SIMD").unwrap_or_default();
            let levels = Self::available();
            levels.iter().copied().find(|level| level.name() == wanted).unwrap_or(levels[0])
        })
    }

    /// Calls `f`, compiled for these instructions as far as it is inlined.
    pub(crate) fn with<R>(self, f: impl FnOnce() -> R) -> R {
        match self.0 {
            Kind::Scalar => f(),
            // SAFETY: a level is only made where its instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::with(f) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::with(f) },
        }
    }

    /// `scalar`, `avx2` or `avx512`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }
}

/// Bytes of weights in one task: few enough that threads end together, and a long run for the prefetcher.
const TASK_BYTES: usize = 256 << 10;
/// Tasks have a multiple of this many rows of the weight, so that only the last one has a tile that is not full.
const TASK_ROWS: usize = 4;

/// What one task computes: some columns of the result, from the rows of the weight and the biases for them.
pub struct Part<'a, W> {
    x: &'a [f32],
    weight: &'a [W],
    bias: Option<&'a [f32]>,
    out: Shared<'a>,
    /// Where its columns start in the result.
    first: usize,
    pub inputs: usize,
    pub rows: usize,
    pub outputs: usize,
}

/// Where `N` rows of a weight and `M` rows of `x` start, each of `inputs` elements.
pub struct Tile<W, const N: usize, const M: usize> {
    pub inputs: usize,
    pub weights: [*const W; N],
    pub xs: [*const f32; M],
}

impl<'a, W: Weight> Part<'a, W> {
    pub fn x_row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.inputs..][..self.inputs]
    }

    pub fn weight_row(&self, output: usize) -> &'a [W] {
        &self.weight[output * self.inputs..][..self.inputs]
    }

    pub fn tile<const N: usize, const M: usize>(&self, output: usize, row: usize) -> Tile<W, N, M> {
        Tile {
            inputs: self.inputs,
            weights: std::array::from_fn(|n| self.weight_row(output + n).as_ptr()),
            xs: std::array::from_fn(|m| self.x_row(row + m).as_ptr()),
        }
    }

    /// Stores the sum for a row of `x` and a row of this part's weight.
    pub fn put(&self, row: usize, output: usize, sum: f32) {
        let bias = self.bias.map(|bias| bias[output]);
        // SAFETY: tasks have columns of their own, and nobody reads before they are done.
        unsafe { self.out.put(row, self.first + output, bias.map_or(sum, |bias| sum + bias)) }
    }

    fn compute(&self, level: Level) {
        match level.0 {
            Kind::Scalar => scalar::compute(self),
            // SAFETY: a level is only made where its instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::compute(self) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::compute(self) },
        }
    }
}

/// The product; the slices have the sizes that `shape` says.
pub fn run<W: Weight>(
    level: Level,
    x: &[f32],
    weight: &[W],
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
    threads: Threads,
) {
    let Shape { rows, inputs, outputs } = shape;
    let columns = Shared::new(out, rows, outputs);
    let most = task_rows::<W>(inputs, outputs, threads);
    let work = |task: usize| {
        let first = task * most;
        compute(level, x, weight, bias, columns, shape, first..(first + most).min(outputs));
    };
    threads.run(&[Phase { tasks: outputs.div_ceil(most), work: &work }]);
}

/// Rows of a weight in one task.
pub fn task_rows<W>(inputs: usize, outputs: usize, threads: Threads) -> usize {
    let share = outputs.div_ceil(4usize.saturating_mul(threads.count())).max(1);
    (TASK_BYTES / (size_of::<W>() * inputs.max(1))).clamp(1, share).next_multiple_of(TASK_ROWS)
}

/// Some columns of the product, those of the rows `outputs` of the weight.
pub fn compute<W: Weight>(
    level: Level,
    x: &[f32],
    weight: &[W],
    bias: Option<&[f32]>,
    out: Shared<'_>,
    shape: Shape,
    outputs: Range<usize>,
) {
    let Shape { rows, inputs, .. } = shape;
    let (first, count) = (outputs.start, outputs.len());
    let weight = &weight[first * inputs..][..count * inputs];
    let bias = bias.map(|bias| &bias[outputs]);
    Part { x, weight, bias, out, first, inputs, rows, outputs: count }.compute(level);
}
