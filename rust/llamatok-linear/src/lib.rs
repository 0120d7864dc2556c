//! Products of a few float32 rows with a weight matrix in float16 or float32, as the linear layers of a language model that
//! writes one token at a time need them: `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]`.
//!
//! Weights stay as they are stored, row by row, and float16 is widened on its way into the registers; products
//! and sums are float32. Each weight is read from memory once, whatever the number of rows, and for few rows
//! the time is that of reading the weights. For many, a matrix product of float32 is the better choice.
//!
//! [`DecoderLayer`] makes a whole layer of such products, with weights of either width.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod layer;
mod math;
mod pool;
mod scalar;
mod shared;
mod threads;
mod weight;

pub use half::f16;
pub use kernel::Level;
pub use layer::{Cache, DecoderLayer, Linear, Step};
pub use threads::{OpenMp, Parallel, Threads};
pub use weight::Weights;

use std::fmt;

/// The sizes of a product: `x` is (rows, inputs), the weight (outputs, inputs), the result (rows, outputs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of `x` and of the result.
    pub rows: usize,
    /// Columns of `x` and of the weight.
    pub inputs: usize,
    /// Rows of the weight, columns of the result.
    pub outputs: usize,
}

/// A slice or a number that does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeError(Unfit);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unfit {
    Size { name: &'static str, expected: usize, found: usize },
    Huge { name: &'static str },
    Other(String),
}

impl SizeError {
    pub(crate) fn unfit(message: String) -> Self {
        Self(Unfit::Other(message))
    }
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Unfit::Size { name, expected, found } => {
                write!(f, "`{name}` must have {expected} elements, got {found}")
            }
            Unfit::Huge { name } => write!(f, "`{name}` has more elements than memory can hold"),
            Unfit::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for SizeError {}

/// Writes `x · weightᵀ + bias` to `out`, all of them row by row without gaps.
///
/// Sums are taken in float32, in an order that depends on the processor but not on the number of threads or
/// of rows.
///
/// # Errors
/// A slice has not the size that `shape` says.
pub fn linear(
    x: &[f32],
    weight: Weights<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
    threads: Threads,
) -> Result<(), SizeError> {
    linear_at(Level::best(), x, weight, bias, out, shape, threads)
}

/// [`linear`] with a given set of instructions.
///
/// # Errors
/// A slice has not the size that `shape` says.
pub fn linear_at(
    level: Level,
    x: &[f32],
    weight: Weights<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
    threads: Threads,
) -> Result<(), SizeError> {
    let Shape { rows, inputs, outputs } = shape;
    check("x", x.len(), rows.checked_mul(inputs))?;
    check("weight", weight.len(), outputs.checked_mul(inputs))?;
    check("out", out.len(), rows.checked_mul(outputs))?;
    if let Some(bias) = bias {
        check("bias", bias.len(), Some(outputs))?;
    }
    match weight {
        Weights::Half(weight) => kernel::run(level, x, weight, bias, out, shape, threads),
        Weights::Full(weight) => kernel::run(level, x, weight, bias, out, shape, threads),
    }
    Ok(())
}

fn check(name: &'static str, found: usize, expected: Option<usize>) -> Result<(), SizeError> {
    match expected {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(SizeError(Unfit::Size { name, expected, found })),
        None => Err(SizeError(Unfit::Huge { name })),
    }
}

#[cfg(test)]
mod tests;
