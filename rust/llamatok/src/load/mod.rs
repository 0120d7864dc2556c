//! Model files: bytes in, a checked [`Model`] out. The format is told by the content.
//!
//! A file is data from a stranger: every length in it is checked against a limit and against the
//! bytes that are really there before anything is allocated for it, and whatever is wrong comes
//! back as an [`Error`] that names the field and, where it helps, the byte.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod charsmap;
mod foreign;
mod gguf;
mod gguf_metadata;
mod sentencepiece;
#[cfg(test)]
mod tests;
pub mod tokenizer_json;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use crate::{Error, ErrorKind, Model, PieceKind, Result, TokenId, Vocabulary};

/// The most bytes that a `tokenizer.model`, or the header and metadata of a GGUF file, may have.
pub const MAX_MODEL_BYTES: usize = 256 << 20;

/// How many bytes at the beginning of a file tell its kind.
const HEAD_BYTES: u64 = 4096;

/// Reads a model from a file: a SentencePiece `tokenizer.model` or a GGUF file, of which only the
/// header and the metadata are read, however large its tensors are.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read, otherwise as [`from_bytes`]; the error names the
/// file.
///
/// ```
/// let error = llamatok::load::from_file("no/such/tokenizer.model").unwrap_err();
/// assert_eq!(error.kind(), llamatok::ErrorKind::Io);
/// ```
pub fn from_file(path: impl AsRef<Path>) -> Result<Model> {
    let path = path.as_ref();
    let found = find_in_file(path)?;
    found.model().map_err(|error| error.in_source(path.display().to_string()))
}

/// What a file was found to hold.
#[derive(Debug, Clone)]
pub enum Found {
    /// A model.
    Model(Box<Model>),
    /// What looks like a `tokenizer.json`, unread: [`tokenizer_json::read`] and
    /// [`JsonTokenizer`](crate::JsonTokenizer) take it.
    TokenizerJson(Vec<u8>),
}

impl Found {
    fn model(self) -> Result<Model> {
        match self {
            Self::Model(model) => Ok(*model),
            Self::TokenizerJson(data) => from_bytes(&data),
        }
    }
}

/// Tells a model from a `tokenizer.json` by the content of a file, and reads the model.
///
/// # Errors
/// As [`from_file`], but for JSON.
pub fn find_in_file(path: impl AsRef<Path>) -> Result<Found> {
    let path = path.as_ref();
    let name = path.display().to_string();
    read_file(path, &name).map_err(|error| error.in_source(name))
}

/// As [`find_in_file`], in memory.
///
/// # Errors
/// As [`from_bytes`], but for JSON.
pub fn find(data: Vec<u8>) -> Result<Found> {
    match from_bytes(&data) {
        Ok(model) => Ok(Found::Model(Box::new(model))),
        Err(_) if foreign::is_json(&data) => {
            if data.len() > MAX_MODEL_BYTES {
                return Err(too_large(data.len() as u64));
            }
            Ok(Found::TokenizerJson(data))
        }
        Err(error) => Err(error),
    }
}

/// Reads a model from memory: the bytes of a SentencePiece `tokenizer.model` or of a GGUF file.
///
/// # Errors
/// [`ErrorKind::ModelFormat`] if the data is damaged, contradicts itself, exceeds a limit or is no
/// model at all; [`ErrorKind::Unsupported`] if it is sound, but not a model that can be tokenized
/// with exactly (a unigram model, `tokenizer.json`, ...). The error says what was found.
///
/// ```
/// let error = llamatok::load::from_bytes(b"{\"version\": \"1.0\"}").unwrap_err();
/// assert_eq!(error.kind(), llamatok::ErrorKind::Unsupported);
/// assert!(error.to_string().contains("JSON"));
/// ```
pub fn from_bytes(data: &[u8]) -> Result<Model> {
    if data.is_empty() {
        return Err(Error::model_format("file", "the file is empty"));
    }
    if data.starts_with(gguf::MAGIC) {
        return gguf::read(data, "bytes");
    }
    if data.len() > MAX_MODEL_BYTES {
        return Err(foreign::recognize(data).unwrap_or_else(|| too_large(data.len() as u64)));
    }
    // Only what fails as a model is looked at as something else: the first bytes of a sound model
    // may look like text (its first tag is a line feed).
    sentencepiece::read(data).map_err(|error| match error.kind() {
        ErrorKind::ModelFormat => foreign::recognize(data).unwrap_or(error),
        _ => error,
    })
}

fn read_file(path: &Path, name: &str) -> Result<Found> {
    let io = |error| Error::io(name, error);
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mut data = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut data).map_err(io)?;
    if data.starts_with(gguf::MAGIC) {
        let model = gguf::read(Cursor::new(data).chain(file), name)?;
        return Ok(Found::Model(Box::new(model)));
    }
    let size = metadata.len();
    if size > MAX_MODEL_BYTES as u64 {
        let other = foreign::recognize(&data).filter(|_| !foreign::is_json(&data));
        return Err(other.unwrap_or_else(|| too_large(size)));
    }
    // A pipe has no size: one byte beyond the limit is enough to see that it is passed.
    let rest = (MAX_MODEL_BYTES as u64 + 1).saturating_sub(data.len() as u64);
    file.take(rest).read_to_end(&mut data).map_err(io)?;
    find(data)
}

fn too_large(size: u64) -> Error {
    Error::model_format("file", format!("{size} bytes, more than the limit of {MAX_MODEL_BYTES} for a model"))
}

/// The id of the piece if it is a control piece: a `<s>` of another kind is ordinary text.
fn control_id(vocabulary: &Vocabulary, piece: &str) -> Option<TokenId> {
    let is_control = |&id: &TokenId| vocabulary.get(id).is_some_and(|p| p.kind == PieceKind::Control);
    vocabulary.piece_to_id(piece).filter(is_control)
}

/// A text from a file as one short line that is safe to print on a terminal.
fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 256;
    let mut line = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_CHARS {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
