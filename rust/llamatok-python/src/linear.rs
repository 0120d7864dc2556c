//! Products of float32 arrays with float16 weights.

use std::ffi::c_void;
use std::num::NonZeroUsize;

use llamatok_linear::{f16, OpenMp, Parallel, Shape, Threads};
use numpy::{
    Element, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Writes `x @ weight.T + bias` to `out`. `gomp_parallel` is the address of that function in the OpenMP runtime
/// whose threads are to do it.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, out, num_threads, gomp_parallel=None))]
pub fn half_linear(
    py: Python<'_>,
    x: PyReadonlyArray2<'_, f32>,
    weight: PyReadonlyArray2<'_, f16>,
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
    let (x, weight) = (slice(&x, "x")?, slice(&weight, "weight")?);
    let bias = bias.as_ref().map(|bias| slice(bias, "bias")).transpose()?;
    if !out.is_c_contiguous() {
        return Err(not_contiguous("out"));
    }
    let out = out.as_slice_mut().map_err(|_| not_contiguous("out"))?;
    let shape = Shape { rows, inputs, outputs };
    let threads = gomp_parallel.map_or(Threads::Own(num_threads), |address| {
        // SAFETY: the Python package alone calls this, with the address of the function in torch's libraries,
        // which stay loaded.
        let openmp = unsafe {
            OpenMp::new(std::mem::transmute::<*const c_void, Parallel>(address.get() as *const c_void))
        };
        Threads::OpenMp(openmp, num_threads)
    });
    py.detach(|| llamatok_linear::half_linear(x, weight, bias, out, shape, threads))
        .map_err(|error| PyValueError::new_err(error.to_string()))
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

fn not_contiguous(name: &str) -> PyErr {
    PyValueError::new_err(format!("`{name}` must be contiguous, row by row"))
}
