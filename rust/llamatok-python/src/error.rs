//! The exceptions, and which error of the core becomes which of them.

use std::path::Path;

use llamatok::{Error, ErrorKind};
use pyo3::create_exception;
use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    llamatok,
    TokenizerError,
    PyValueError,
    "A model or an argument that the tokenizer cannot work with."
);
create_exception!(
    llamatok,
    ModelFormatError,
    TokenizerError,
    "A model file that is damaged, contradicts itself or exceeds a limit."
);
create_exception!(
    llamatok,
    UnsupportedModelError,
    ModelFormatError,
    "A sound model file that asks for something not supported exactly."
);

/// An error met while a model is loaded, from `path` if it came from a file.
pub fn load_error(py: Python<'_>, error: &Error, path: Option<&Path>) -> PyErr {
    match (error.kind(), error.io_error()) {
        (ErrorKind::Io, Some(io)) => os_error(py, io, path),
        (ErrorKind::Unsupported, _) => UnsupportedModelError::new_err(error.to_string()),
        _ => ModelFormatError::new_err(error.to_string()),
    }
}

/// An error met while a loaded tokenizer works.
pub fn call_error(error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::IdOutOfRange => PyIndexError::new_err(error.to_string()),
        _ => TokenizerError::new_err(error.to_string()),
    }
}

/// The `OSError` that Python's own `open` would raise: with number and file name, and hence of the
/// subclass (`FileNotFoundError`, ...) that Python picks for the number.
fn os_error(py: Python<'_>, error: &std::io::Error, path: Option<&Path>) -> PyErr {
    let (Some(code), Some(path)) = (error.raw_os_error(), path) else {
        return PyOSError::new_err(error.to_string());
    };
    let path = path.as_os_str().to_owned();
    if cfg!(windows) {
        // Python translates the Windows code, which stands fourth, into a number of its own.
        return PyOSError::new_err((0, error.to_string(), path, code));
    }
    let message = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (code,)))
        .and_then(|message| message.extract())
        .unwrap_or_else(|_| error.to_string());
    PyOSError::new_err((code, message, path))
}
