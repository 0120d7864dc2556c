//! The header and metadata of a GGUF file, read from a stream and checked; tensors are never read.
//!
//! What is read is kept as it is, since a model must be able to give back the bytes it came from,
//! and values refer into it: a list that nobody asks for costs no allocation of its own. The bytes
//! kept grow with what the stream delivers, never with what a length in it claims.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use super::MAX_MODEL_BYTES;
use crate::{Error, Result};

/// The first bytes of a GGUF file.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// The most metadata keys; models have some dozens.
const MAX_KEYS: u64 = 1 << 16;

/// The longest key that GGUF allows.
const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// How much is asked of the stream at once.
const CHUNK_BYTES: u64 = 1 << 16;

/// A type of GGUF's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Type {
    fn from_number(number: u32) -> Option<Self> {
        use Type::*;
        let all = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        all.get(usize::try_from(number).ok()?).copied()
    }

    /// The bytes of a value, for types of one size.
    fn size(self) -> Option<u64> {
        use Type::*;
        match self {
            U8 | I8 | Bool => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            String | Array => None,
        }
    }
}

/// A value of the metadata; strings and arrays are places in [`Metadata::bytes`].
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// An integer of any width and sign.
    Integer(i128),
    /// A 32-bit floating-point number.
    F32(f32),
    /// A 64-bit floating-point number.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string; not yet known to be UTF-8.
    String(Range<usize>),
    /// Elements of one type, none of them an array.
    Array { of: Type, count: u64, span: Range<usize> },
}

impl Value {
    /// The value's type in words.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Integer(_) => "an integer".into(),
            Self::F32(_) | Self::F64(_) => "a floating-point number".into(),
            Self::Bool(_) => "a bool".into(),
            Self::String(_) => "a string".into(),
            Self::Array { of, .. } => format!("an array of {of:?}"),
        }
    }
}

/// The metadata of a GGUF file.
pub(super) struct Metadata {
    /// The version of the format, 2 or 3.
    pub version: u32,
    /// The values by their keys.
    pub values: BTreeMap<String, Value>,
    /// The file up to the end of the metadata.
    pub bytes: Vec<u8>,
}

impl Metadata {
    /// Reads the header and the metadata from the beginning of a file. `name` is for I/O errors.
    ///
    /// # Errors
    /// As [`from_file`](super::from_file).
    pub(super) fn read(source: impl Read, name: &str) -> Result<Self> {
        let mut stream = Stream { source, name, bytes: Vec::new(), pos: 0 };
        if stream.array::<4>("magic")? != MAGIC {
            return Err(Error::model_format("magic", "the file does not begin with `GGUF`"));
        }
        let version = stream.u32("version")?;
        check_version(version)?;
        stream.u64("tensor_count")?;
        let key_count = stream.u64("metadata_kv_count")?;
        if key_count > MAX_KEYS {
            return Err(Error::model_format(
                "metadata_kv_count",
                format!("{key_count} metadata keys, more than the limit of {MAX_KEYS}"),
            ));
        }
        let mut values = BTreeMap::new();
        for index in 0..key_count {
            let key = stream.key(&format!("metadata[{index}]"))?;
            let value = stream.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(Error::model_format(key, "the metadata key occurs twice"));
            }
        }
        let Stream { mut bytes, pos, .. } = stream;
        bytes.truncate(pos);
        bytes.shrink_to_fit();
        Ok(Self { version, values, bytes })
    }

    /// The elements of an array of numbers, each `N` bytes wide.
    pub(super) fn elements<const N: usize>(&self, span: &Range<usize>) -> impl Iterator<Item = [u8; N]> + '_ {
        let bytes = self.bytes.get(span.clone()).unwrap_or_default();
        bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
    }

    /// The elements of an array of strings.
    pub(super) fn strings(&self, span: &Range<usize>) -> impl Iterator<Item = &[u8]> + '_ {
        let mut rest = self.bytes.get(span.clone()).unwrap_or_default();
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<8>()?;
            let (string, tail) = tail.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = tail;
            Some(string)
        })
    }
}

fn check_version(version: u32) -> Result<()> {
    let message = match version {
        2 | 3 => return Ok(()),
        1 => {
            "version 1 of GGUF is not supported, only versions 2 and 3\nhint: convert the model again".into()
        }
        // The bytes of a small number, the other way round.
        _ if (1..=0xffff).contains(&version.swap_bytes()) => {
            "this GGUF file is big-endian; only little-endian files are supported".into()
        }
        _ => format!("version {version} of GGUF is not supported, only versions 2 and 3"),
    };
    Err(Error::unsupported("version", message))
}

/// A file read from its beginning on, with all that was read.
struct Stream<'a, R> {
    source: R,
    name: &'a str,
    bytes: Vec<u8>,
    pos: usize,
}

impl<R: Read> Stream<'_, R> {
    /// The next `len` bytes, as a place in `self.bytes`.
    fn take(&mut self, len: u64, field: &str) -> Result<Range<usize>> {
        let start = self.pos;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
        let Some(end) = end.filter(|&end| end <= MAX_MODEL_BYTES) else {
            return Err(Error::model_format(
                field,
                format!(
                    "byte {start}: {len} bytes more would pass the limit of {MAX_MODEL_BYTES} for the metadata"
                ),
            ));
        };
        while self.bytes.len() < end {
            let mut chunk = self.source.by_ref().take(CHUNK_BYTES);
            let read = chunk.read_to_end(&mut self.bytes).map_err(|error| Error::io(self.name, error))?;
            if read == 0 {
                return Err(Error::model_format(
                    field,
                    format!(
                        "byte {start}: {len} bytes are needed, but the file ends at byte {}: it is cut off or damaged",
                        self.bytes.len()
                    ),
                ));
            }
        }
        self.pos = end;
        Ok(start..end)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        let span = self.take(N as u64, field)?;
        let bytes = self.bytes.get(span).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Error::model_format(field, "the file is cut off"))
    }

    fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn key(&mut self, field: &str) -> Result<String> {
        let offset = self.pos;
        let len = self.u64(field)?;
        if len > MAX_KEY_BYTES {
            return Err(Error::model_format(
                field,
                format!("byte {offset}: a key of {len} bytes, more than the limit of {MAX_KEY_BYTES}"),
            ));
        }
        let span = self.take(len, field)?;
        let key = std::str::from_utf8(self.bytes.get(span).unwrap_or_default());
        key.map(str::to_owned)
            .map_err(|_| Error::model_format(field, format!("byte {offset}: the key is not valid UTF-8")))
    }

    fn value_type(&mut self, field: &str) -> Result<Type> {
        let offset = self.pos;
        let number = self.u32(field)?;
        Type::from_number(number).ok_or_else(|| {
            Error::model_format(field, format!("byte {offset}: there is no metadata type {number}"))
        })
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        Ok(match self.value_type(key)? {
            Type::U8 => Value::Integer(u8::from_le_bytes(self.array(key)?).into()),
            Type::I8 => Value::Integer(i8::from_le_bytes(self.array(key)?).into()),
            Type::U16 => Value::Integer(u16::from_le_bytes(self.array(key)?).into()),
            Type::I16 => Value::Integer(i16::from_le_bytes(self.array(key)?).into()),
            Type::U32 => Value::Integer(u32::from_le_bytes(self.array(key)?).into()),
            Type::I32 => Value::Integer(i32::from_le_bytes(self.array(key)?).into()),
            Type::U64 => Value::Integer(u64::from_le_bytes(self.array(key)?).into()),
            Type::I64 => Value::Integer(i64::from_le_bytes(self.array(key)?).into()),
            Type::F32 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            Type::F64 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            Type::Bool => Value::Bool(self.bool(key)?),
            Type::String => {
                let len = self.u64(key)?;
                Value::String(self.take(len, key)?)
            }
            Type::Array => self.array_value(key)?,
        })
    }

    fn bool(&mut self, key: &str) -> Result<bool> {
        match self.array::<1>(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => Err(Error::model_format(key, format!("a bool is 0 or 1, not {byte}"))),
        }
    }

    fn array_value(&mut self, key: &str) -> Result<Value> {
        let of = self.value_type(key)?;
        let count = self.u64(key)?;
        let start = self.pos;
        if let Some(size) = of.size() {
            let span = self.take(count.saturating_mul(size), key)?;
            return Ok(Value::Array { of, count, span });
        }
        if of == Type::Array {
            return Err(Error::unsupported(key, format!("byte {start}: arrays of arrays are not supported")));
        }
        // Each string takes 8 bytes at least, so the loop ends with the file or at the limit.
        for _ in 0..count {
            let len = self.u64(key)?;
            self.take(len, key)?;
        }
        Ok(Value::Array { of, count, span: start..self.pos })
    }
}
