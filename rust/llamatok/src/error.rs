//! The one error type of the crate.

use std::fmt;

/// What went wrong, for callers that act on the kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A model file is damaged, contradicts itself or exceeds a limit.
    ModelFormat,
    /// A model file is sound, but asks for something that is not supported exactly.
    Unsupported,
    /// A token id is not in the vocabulary.
    IdOutOfRange,
    /// A file could not be read.
    Io,
}

/// An error that names where it arose (a file, where known), the field, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source_name: Option<String>,
    field: Option<String>,
    message: String,
    io: Option<std::io::Error>,
    /// The id that is out of range, its position and the vocabulary's size.
    id: Option<(u64, usize, usize)>,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A model file that is damaged or contradicts itself in `field`.
    pub fn model_format(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ModelFormat, Some(field.into()), message.into())
    }

    /// A model file that asks, in `field`, for something not supported.
    pub fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, Some(field.into()), message.into())
    }

    /// A token id that the vocabulary does not have; `index` is its position in the input.
    pub fn id_out_of_range(id: u64, index: usize, vocab_size: usize) -> Self {
        let message =
            format!("id {id} at index {index} is out of range: the vocabulary has {vocab_size} pieces");
        Self { id: Some((id, index, vocab_size)), ..Self::new(ErrorKind::IdOutOfRange, None, message) }
    }

    /// The same error, with the position of the id counted from further ahead.
    #[must_use]
    pub(crate) fn shift_index(self, shift: usize) -> Self {
        match self.id {
            Some((id, index, vocab_size)) => Self::id_out_of_range(id, index + shift, vocab_size),
            None => self,
        }
    }

    /// A file that could not be read.
    pub fn io(source_name: impl Into<String>, error: std::io::Error) -> Self {
        let message = error.to_string();
        Self {
            kind: ErrorKind::Io,
            source_name: Some(source_name.into()),
            field: None,
            message,
            io: Some(error),
            id: None,
        }
    }

    fn new(kind: ErrorKind, field: Option<String>, message: String) -> Self {
        Self { kind, source_name: None, field, message, io: None, id: None }
    }

    /// Names the file (or other source) that the error arose in, unless one is named already.
    #[must_use]
    pub fn in_source(mut self, name: impl Into<String>) -> Self {
        self.source_name.get_or_insert_with(|| name.into());
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field of the model file that is at fault, where one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The operating system's error, for [`ErrorKind::Io`].
    pub fn io_error(&self) -> Option<&std::io::Error> {
        self.io.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.source_name {
            write!(f, "{name}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.io.as_ref().map(|e| e as _)
    }
}
