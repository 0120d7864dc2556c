//! Products of a few float32 rows with weights, and the decoder layers made of them.

use std::ffi::c_void;
use std::num::NonZeroUsize;

use llamatok_linear::{f16, Cache, DecoderLayer, Linear, OpenMp, Parallel, Shape, Step, Threads, Weights};
use numpy::{
    Element, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray, PyReadwriteArray2,
    PyReadwriteArray4, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Writes `x @ weight.T + bias` to `out`. `gomp_parallel` is the address of that function in the OpenMP runtime
/// whose threads are to do it.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, out, num_threads, gomp_parallel=None))]
pub fn linear(
    py: Python<'_>,
    x: PyReadonlyArray2<'_, f32>,
    weight: PyWeight<'_>,
    bias: Option<PyReadonlyArray1<'_, f32>>,
    mut out: PyReadwriteArray2<'_, f32>,
    num_threads: usize,
    gomp_parallel: Option<NonZeroUsize>,
) -> PyResult<()> {
    let (rows, inputs) = (x.shape()[0], x.shape()[1]);
    let outputs = weight.shape()[0];
    if weight.shape()[1] != inputs {
        let columns = weight.shape()[1];
        return Err(PyValueError::new_err(format!("`x` has {inputs} columns, `weight` has {columns}")));
    }
    if out.shape() != [rows, outputs] {
        let found = out.shape();
        return Err(PyValueError::new_err(format!("`out` must be ({rows}, {outputs}), got {found:?}")));
    }
    let (x, weight) = (slice(&x, "x")?, weight.elements("weight")?);
    let bias = bias.as_ref().map(|bias| slice(bias, "bias")).transpose()?;
    let out = slice_mut(&mut out, "out")?;
    let shape = Shape { rows, inputs, outputs };
    let threads = threads(num_threads, gomp_parallel);
    py.detach(|| llamatok_linear::linear(x, weight, bias, out, shape, threads))
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A linear layer: (weight, bias or None).
type PyLinear<'py> = (PyWeight<'py>, Option<PyReadonlyArray1<'py, f32>>);

#[derive(FromPyObject)]
pub enum PyWeight<'py> {
    Full(PyReadonlyArray2<'py, f32>),
    Half(PyReadonlyArray2<'py, f16>),
}

/// Runs a decoder layer for one new token of each row: from `x` to `out`, with its keys and values written to
/// place `length` of the cache. `sizes` are heads, heads of keys, and elements of a head.
#[pyfunction]
#[pyo3(signature = (
    x, out, sizes, eps, scale, norms, qkv, output, gate_up, down, cos, sin, bias, keys, values, length,
    num_threads, gomp_parallel=None,
))]
#[allow(clippy::too_many_arguments)]
pub fn decoder_step<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, f32>,
    mut out: PyReadwriteArray2<'py, f32>,
    sizes: (usize, usize, usize),
    eps: f32,
    scale: f32,
    norms: (PyReadonlyArray1<'py, f32>, PyReadonlyArray1<'py, f32>),
    qkv: PyLinear<'py>,
    output: PyLinear<'py>,
    gate_up: PyLinear<'py>,
    down: PyLinear<'py>,
    cos: PyReadonlyArray2<'py, f32>,
    sin: PyReadonlyArray2<'py, f32>,
    bias: Option<PyReadonlyArray2<'py, f32>>,
    mut keys: PyReadwriteArray4<'py, f32>,
    mut values: PyReadwriteArray4<'py, f32>,
    length: usize,
    num_threads: usize,
    gomp_parallel: Option<NonZeroUsize>,
) -> PyResult<()> {
    let (heads, kv_heads, head_dim) = sizes;
    let (rows, hidden) = (x.shape()[0], x.shape()[1]);
    let room = keys.shape()[2];
    for (name, shape) in [("keys", keys.shape()), ("values", values.shape())] {
        if shape != [rows, kv_heads, room, head_dim] {
            return Err(PyValueError::new_err(format!(
                "`{name}` must be ({rows}, {kv_heads}, {room}, {head_dim}), got {shape:?}"
            )));
        }
    }
    let attended = heads.saturating_mul(head_dim);
    let inner = gate_up.0.shape()[0] / 2;
    let layer = DecoderLayer {
        heads,
        kv_heads,
        head_dim,
        eps,
        scale,
        input_norm: slice(&norms.0, "input norm")?,
        qkv: linear_of(&qkv, "qkv", hidden)?,
        output: linear_of(&output, "output", attended)?,
        post_norm: slice(&norms.1, "post norm")?,
        gate_up: linear_of(&gate_up, "gate_up", hidden)?,
        down: linear_of(&down, "down", inner)?,
    };
    let step = Step {
        rows,
        x: slice(&x, "x")?,
        cos: slice(&cos, "cos")?,
        sin: slice(&sin, "sin")?,
        bias: bias.as_ref().map(|bias| slice(bias, "bias")).transpose()?,
    };
    let (keys, values) = (slice_mut(&mut keys, "keys")?, slice_mut(&mut values, "values")?);
    let cache = Cache { keys, values, room, length };
    let out = slice_mut(&mut out, "out")?;
    let threads = threads(num_threads, gomp_parallel);
    py.detach(|| layer.run(step, cache, out, threads))
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

impl PyWeight<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Full(weight) => weight.shape(),
            Self::Half(weight) => weight.shape(),
        }
    }

    fn elements(&self, name: &str) -> PyResult<Weights<'_>> {
        Ok(match self {
            Self::Full(weight) => Weights::Full(slice(weight, name)?),
            Self::Half(weight) => Weights::Half(slice(weight, name)?),
        })
    }
}

fn linear_of<'a>(given: &'a PyLinear<'_>, name: &str, inputs: usize) -> PyResult<Linear<'a>> {
    let columns = given.0.shape()[1];
    if columns != inputs {
        return Err(PyValueError::new_err(format!("`{name}` must have {inputs} columns, got {columns}")));
    }
    Ok(Linear {
        weight: given.0.elements(name)?,
        bias: given.1.as_ref().map(|bias| slice(bias, name)).transpose()?,
    })
}

fn threads(num_threads: usize, gomp_parallel: Option<NonZeroUsize>) -> Threads {
    gomp_parallel.map_or(Threads::Own(num_threads), |address| {
        // SAFETY: the Python package alone calls this, with the address of the function in torch's libraries,
        // which stay loaded.
        let openmp = unsafe {
            OpenMp::new(std::mem::transmute::<*const c_void, Parallel>(address.get() as *const c_void))
        };
        Threads::OpenMp(openmp, num_threads)
    })
}

fn slice<'a, T: Element, D: numpy::ndarray::Dimension>(
    array: &'a PyReadonlyArray<'_, T, D>,
    name: &str,
) -> PyResult<&'a [T]> {
    // In Fortran's order an array is contiguous, too, but its rows are not.
    if !array.is_c_contiguous() {
        return Err(not_contiguous(name));
    }
    array.as_slice().map_err(|_| not_contiguous(name))
}

fn slice_mut<'a, T: Element, D: numpy::ndarray::Dimension>(
    array: &'a mut PyReadwriteArray<'_, T, D>,
    name: &str,
) -> PyResult<&'a mut [T]> {
    if !array.is_c_contiguous() {
        return Err(not_contiguous(name));
    }
    array.as_slice_mut().map_err(|_| not_contiguous(name))
}

fn not_contiguous(name: &str) -> PyErr {
    PyValueError::new_err(format!("`{name}` must be contiguous, row by row"))
}
