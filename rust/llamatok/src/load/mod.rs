//! Model files: bytes in, a checked [`Model`] out. The format is told by the content.

use std::path::Path;

use crate::{Model, Result};

/// Reads a model from a file.
pub fn from_file(path: impl AsRef<Path>) -> Result<Model> {
    let _ = path;
    todo!()
}

/// Reads a model from memory.
pub fn from_bytes(data: &[u8]) -> Result<Model> {
    let _ = data;
    todo!()
}
