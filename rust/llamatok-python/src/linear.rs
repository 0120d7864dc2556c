//! Products of a few float32 rows with weights, and the decoder layers made of them.

use std::ffi::c_void;
use std::num::NonZeroUsize;

use llamatok_linear::{f16, Cache, DecoderLayer, Linear, OpenMp, Parallel, Shape, Step, Threads, Weights};
use numpy::ndarray::Dimension;
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray, PyReadonlyArray1,
    PyReadonlyArray2, PyReadwriteArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Writes `x @ weight.T + bias` to `out`. `gomp_parallel` is the address of that function in the OpenMP runtime
/// whose threads are to do it.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, out, num_threads, gomp_parallel=None))]
pub fn linear<'py>(
    py: Python<'py>,
    x: Bound<'py, PyArray2<f32>>,
    weight: PyWeight<'py>,
    bias: Option<Bound<'py, PyArray1<f32>>>,
    out: Bound<'py, PyArray2<f32>>,
    num_threads: usize,
    gomp_parallel: Option<NonZeroUsize>,
) -> PyResult<()> {
    let (rows, inputs) = (x.shape()[0], x.shape()[1]);
    let layer = Layer::new((weight, bias), "weight", "bias")?;
    let [outputs, columns] = layer.shape;
    if columns != inputs {
        return Err(PyValueError::new_err(format!("`x` has {inputs} columns, `weight` has {columns}")));
    }
    if out.shape() != [rows, outputs] {
        let found = out.shape();
        return Err(PyValueError::new_err(format!("`out` must be ({rows}, {outputs}), got {found:?}")));
    }
    let (x, mut out) = (read(&x, "x")?, write(&out, "out")?);
    let (x, out, Linear { weight, bias }) = (slice(&x)?, slice_mut(&mut out)?, layer.linear()?);
    let shape = Shape { rows, inputs, outputs };
    let threads = threads(num_threads, gomp_parallel);
    py.detach(|| llamatok_linear::linear(x, weight, bias, out, shape, threads))
        .map_err(|error| PyValueError::new_err(error.to_string()))
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
    x: Bound<'py, PyArray2<f32>>,
    out: Bound<'py, PyArray2<f32>>,
    sizes: (usize, usize, usize),
    eps: f32,
    scale: f32,
    norms: (Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f32>>),
    qkv: PyLinear<'py>,
    output: PyLinear<'py>,
    gate_up: PyLinear<'py>,
    down: PyLinear<'py>,
    cos: Bound<'py, PyArray2<f32>>,
    sin: Bound<'py, PyArray2<f32>>,
    bias: Option<Bound<'py, PyArray2<f32>>>,
    keys: Bound<'py, PyArray4<f32>>,
    values: Bound<'py, PyArray4<f32>>,
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
    let qkv = Layer::new(qkv, "qkv", "qkv bias")?;
    let output = Layer::new(output, "output", "output bias")?;
    let gate_up = Layer::new(gate_up, "gate_up", "gate_up bias")?;
    let down = Layer::new(down, "down", "down bias")?;
    let inner = gate_up.shape[0] / 2;
    for (layer, inputs) in
        [(&qkv, hidden), (&output, heads.saturating_mul(head_dim)), (&gate_up, hidden), (&down, inner)]
    {
        let (name, columns) = (layer.name, layer.shape[1]);
        if columns != inputs {
            return Err(PyValueError::new_err(format!("`{name}` must have {inputs} columns, got {columns}")));
        }
    }
    let (x, mut out) = (read(&x, "x")?, write(&out, "out")?);
    let (input_norm, post_norm) = (read(&norms.0, "input norm")?, read(&norms.1, "post norm")?);
    let (cos, sin) = (read(&cos, "cos")?, read(&sin, "sin")?);
    let bias = bias.as_ref().map(|bias| read(bias, "bias")).transpose()?;
    let (mut keys, mut values) = (write(&keys, "keys")?, write(&values, "values")?);
    let layer = DecoderLayer {
        heads,
        kv_heads,
        head_dim,
        eps,
        scale,
        input_norm: slice(&input_norm)?,
        qkv: qkv.linear()?,
        output: output.linear()?,
        post_norm: slice(&post_norm)?,
        gate_up: gate_up.linear()?,
        down: down.linear()?,
    };
    let step = Step {
        rows,
        x: slice(&x)?,
        cos: slice(&cos)?,
        sin: slice(&sin)?,
        bias: bias.as_ref().map(slice).transpose()?,
    };
    let cache = Cache { keys: slice_mut(&mut keys)?, values: slice_mut(&mut values)?, room, length };
    let out = slice_mut(&mut out)?;
    let threads = threads(num_threads, gomp_parallel);
    py.detach(|| layer.run(step, cache, out, threads))
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A linear layer: (weight, bias or None).
type PyLinear<'py> = (PyWeight<'py>, Option<Bound<'py, PyArray1<f32>>>);

#[derive(FromPyObject)]
pub enum PyWeight<'py> {
    Full(Bound<'py, PyArray2<f32>>),
    Half(Bound<'py, PyArray2<f16>>),
}

/// A linear layer's arrays while the core reads them.
struct Layer<'py> {
    name: &'static str,
    /// Outputs and inputs.
    shape: [usize; 2],
    weight: Held<'py>,
    bias: Option<Lent<PyReadonlyArray1<'py, f32>>>,
}

enum Held<'py> {
    Full(Lent<PyReadonlyArray2<'py, f32>>),
    Half(Lent<PyReadonlyArray2<'py, f16>>),
}

impl<'py> Layer<'py> {
    fn new(given: PyLinear<'py>, name: &'static str, bias_name: &'static str) -> PyResult<Self> {
        let sizes = |shape: &[usize]| [shape[0], shape[1]];
        let (shape, weight) = match &given.0 {
            PyWeight::Full(weight) => (sizes(weight.shape()), Held::Full(read(weight, name)?)),
            PyWeight::Half(weight) => (sizes(weight.shape()), Held::Half(read(weight, name)?)),
        };
        let bias = given.1.as_ref().map(|bias| read(bias, bias_name)).transpose()?;
        Ok(Self { name, shape, weight, bias })
    }

    fn linear(&self) -> PyResult<Linear<'_>> {
        let weight = match &self.weight {
            Held::Full(weight) => Weights::Full(slice(weight)?),
            Held::Half(weight) => Weights::Half(slice(weight)?),
        };
        Ok(Linear { weight, bias: self.bias.as_ref().map(slice).transpose()? })
    }
}

/// An array that is lent to the core, and its name in messages.
struct Lent<A> {
    name: &'static str,
    array: A,
}

fn read<'py, T: Element, D: Dimension>(
    array: &Bound<'py, PyArray<T, D>>,
    name: &'static str,
) -> PyResult<Lent<PyReadonlyArray<'py, T, D>>> {
    let array = array.try_readonly().map_err(|error| in_use(name, &error))?;
    Ok(Lent { name, array })
}

fn write<'py, T: Element, D: Dimension>(
    array: &Bound<'py, PyArray<T, D>>,
    name: &'static str,
) -> PyResult<Lent<PyReadwriteArray<'py, T, D>>> {
    let array = array.try_readwrite().map_err(|error| in_use(name, &error))?;
    Ok(Lent { name, array })
}

fn slice<'a, T: Element, D: Dimension>(lent: &'a Lent<PyReadonlyArray<'_, T, D>>) -> PyResult<&'a [T]> {
    // In Fortran's order an array is contiguous, too, but its rows are not.
    if !lent.array.is_c_contiguous() {
        return Err(not_contiguous(lent.name));
    }
    lent.array.as_slice().map_err(|_| not_contiguous(lent.name))
}

fn slice_mut<'a, T: Element, D: Dimension>(
    lent: &'a mut Lent<PyReadwriteArray<'_, T, D>>,
) -> PyResult<&'a mut [T]> {
    if !lent.array.is_c_contiguous() {
        return Err(not_contiguous(lent.name));
    }
    lent.array.as_slice_mut().map_err(|_| not_contiguous(lent.name))
}

fn not_contiguous(name: &str) -> PyErr {
    PyValueError::new_err(format!("`{name}` must be contiguous, row by row, and aligned"))
}

fn in_use(name: &str, error: &dyn std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("`{name}` cannot be lent to the core now: {error}"))
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
