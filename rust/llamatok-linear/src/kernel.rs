//! Which instructions compute a product, and how it is parted among threads and tiles.

use std::marker::PhantomData;
use std::sync::OnceLock;

use half::f16;

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
pub struct Part<'a> {
    x: &'a [f32],
    weight: &'a [f16],
    bias: Option<&'a [f32]>,
    out: Columns<'a>,
    /// Where its columns start in the result.
    first: usize,
    pub inputs: usize,
    pub rows: usize,
    pub outputs: usize,
}

/// Where `N` rows of a weight and `M` rows of `x` start, each of `inputs` elements.
pub struct Tile<const N: usize, const M: usize> {
    pub inputs: usize,
    pub weights: [*const f16; N],
    pub xs: [*const f32; M],
}

impl<'a> Part<'a> {
    pub fn x_row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.inputs..][..self.inputs]
    }

    pub fn weight_row(&self, output: usize) -> &'a [f16] {
        &self.weight[output * self.inputs..][..self.inputs]
    }

    pub fn tile<const N: usize, const M: usize>(&self, output: usize, row: usize) -> Tile<N, M> {
        Tile {
            inputs: self.inputs,
            weights: std::array::from_fn(|n| self.weight_row(output + n).as_ptr()),
            xs: std::array::from_fn(|m| self.x_row(row + m).as_ptr()),
        }
    }

    /// Stores the sum for a row of `x` and a row of this part's weight.
    pub fn put(&self, row: usize, output: usize, sum: f32) {
        let bias = self.bias.map(|bias| bias[output]);
        self.out.put(row, self.first + output, bias.map_or(sum, |bias| sum + bias));
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

/// The result, to which several threads write different columns.
#[derive(Clone, Copy)]
struct Columns<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    _out: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is only written to, and `run` gives every task columns of its own.
unsafe impl Send for Columns<'_> {}
// SAFETY: as above.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// `out` is `rows` rows of `width` elements.
    fn new(out: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert_eq!(out.len(), rows * width);
        Self { start: out.as_mut_ptr(), rows, width, _out: PhantomData }
    }

    fn put(self, row: usize, column: usize, value: f32) {
        assert!(row < self.rows && column < self.width);
        // SAFETY: inside the slice, which is borrowed for as long as this lives; no other task has the column.
        unsafe { self.start.add(row * self.width + column).write(value) }
    }
}

/// The product; the slices have the sizes that `shape` says.
pub fn run(
    level: Level,
    x: &[f32],
    weight: &[f16],
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
    threads: Threads,
) {
    let Shape { rows, inputs, outputs } = shape;
    let columns = Columns::new(out, rows, outputs);
    let share = outputs.div_ceil(4 * threads.count()).max(1);
    let most = (TASK_BYTES / (2 * inputs.max(1))).clamp(1, share).next_multiple_of(TASK_ROWS);
    let work = |task: usize| {
        let first = task * most;
        let count = most.min(outputs - first);
        let weight = &weight[first * inputs..][..count * inputs];
        let bias = bias.map(|bias| &bias[first..][..count]);
        let part = Part { x, weight, bias, out: columns, first, inputs, rows, outputs: count };
        part.compute(level);
    };
    threads.run(outputs.div_ceil(most), &work);
}
