//! The Python extension `llamatok._core`: conversions between Python and the crates `llamatok` and
//! `llamatok-linear`, and nothing else. A binding function extracts its arguments, lets go of the interpreter, calls the
//! core and converts the result.

mod arguments;
mod arrow;
mod encoding_batch;
mod error;
mod ids;
mod interrupt;
mod ints;
mod linear;
mod pipeline;
mod ragged;
mod stream_decoder;
mod text_batch;
mod texts;
mod token_batch;
mod tokenizer;
mod utf8;

/// The compiled core of llamatok.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::encoding_batch::EncodingBatch;
    #[pymodule_export]
    use crate::error::{ModelFormatError, TokenizerError, UnsupportedModelError};
    #[pymodule_export]
    use crate::linear::{decoder_step, linear};
    #[pymodule_export]
    use crate::pipeline::Pipeline;
    #[pymodule_export]
    use crate::stream_decoder::StreamDecoder;
    #[pymodule_export]
    use crate::text_batch::TextBatch;
    #[pymodule_export]
    use crate::token_batch::TokenBatch;
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::interrupt::init(module.py())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
