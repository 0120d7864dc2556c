//! Arrow's C data interface, by PyCapsules: columns of strings and lists of ids come in, token
//! lists and texts go out, and no buffer is copied on the way.
//!
//! What a producer hands over is trusted as far as the interface demands it (pointers are valid,
//! the last offset is the size of the data); every offset in between is checked as it is used.

use std::ffi::{c_int, CStr};
use std::sync::Arc;

use arrow_array::ffi::{from_ffi_and_data_type, to_ffi};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, LargeListArray, LargeStringArray, UInt32Array};
use arrow_buffer::{ArrowNativeType, OffsetBuffer};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_data::ArrayData;
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, Field};
use llamatok::TokenId;
use pyo3::exceptions::{PyImportError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyTuple};

use crate::ids::IdSource;
use crate::ragged::Ragged;

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// The chunks of an object that has `__arrow_c_array__` or `__arrow_c_stream__`; `None` for any
/// other object. A table with a single column counts as that column.
pub fn import(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<ArrayData>>> {
    let exported = if let Some(export) = object.getattr_opt("__arrow_c_array__")? {
        export.call0().and_then(|pair| import_array(&pair).map(|array| vec![array]))
    } else if let Some(export) = object.getattr_opt("__arrow_c_stream__")? {
        export.call0().and_then(|capsule| import_stream(&capsule))
    } else {
        return Ok(None);
    };
    match exported {
        Ok(arrays) => arrays.into_iter().map(single_column).collect::<PyResult<_>>().map(Some),
        // pandas has the method, but needs pyarrow for it; without, it is an iterable like others.
        Err(error) if error.is_instance_of::<PyImportError>(object.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn import_array(pair: &Bound<'_, PyAny>) -> PyResult<ArrayData> {
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = pair.extract()?;
    let schema = schema.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: a capsule of this name holds a pointer to a valid schema while it lives, and it lives
    // as long as `pair`. The schema is only read; the capsule releases it.
    let data_type = DataType::try_from(unsafe { schema.as_ref() }).map_err(|error| arrow_error(&error))?;
    // SAFETY: a capsule of this name holds a pointer to a valid array, which its consumer may move
    // out; no other thread consumes the capsule, which was made for this call.
    let array = unsafe { FFI_ArrowArray::from_raw(array.as_ptr()) };
    if array.is_released() {
        return Err(PyValueError::new_err("the Arrow array was released or consumed before"));
    }
    // SAFETY: array and schema are of one export, and the producer vouches for their agreement.
    unsafe { from_ffi_and_data_type(array, data_type) }.map_err(|error| arrow_error(&error))
}

fn import_stream(capsule: &Bound<'_, PyAny>) -> PyResult<Vec<ArrayData>> {
    let stream = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of this name holds a pointer to a valid stream, which its consumer may move
    // out; no other thread consumes the capsule, which was made for this call.
    let mut stream = unsafe { FFI_ArrowArrayStream::from_raw(stream.as_ptr()) };
    // A producer may run a query now, on threads that need the interpreter.
    capsule.py().detach(|| read_stream(&mut stream)).map_err(|error| arrow_error(&error))
}

fn read_stream(stream: &mut FFI_ArrowArrayStream) -> Result<Vec<ArrayData>, ArrowError> {
    let (Some(get_schema), Some(get_next), Some(_)) = (stream.get_schema, stream.get_next, stream.release)
    else {
        return Err(ArrowError::ComputeError("it was released or consumed before".into()));
    };
    let mut schema = FFI_ArrowSchema::empty();
    // SAFETY: the stream is not released, and `schema` is a place to write a schema to.
    let code = unsafe { get_schema(stream, &mut schema) };
    check_stream(stream, code)?;
    let data_type = DataType::try_from(&schema)?;
    let mut arrays = Vec::new();
    loop {
        let mut array = FFI_ArrowArray::empty();
        // SAFETY: the stream is not released, and `array` is a place to write an array to.
        let code = unsafe { get_next(stream, &mut array) };
        check_stream(stream, code)?;
        if array.is_released() {
            return Ok(arrays);
        }
        // SAFETY: the producer vouches that its arrays are of the stream's schema.
        arrays.push(unsafe { from_ffi_and_data_type(array, data_type.clone()) }?);
    }
}

fn check_stream(stream: &mut FFI_ArrowArrayStream, code: c_int) -> Result<(), ArrowError> {
    if code == 0 {
        return Ok(());
    }
    let message = stream.get_last_error.and_then(|get_last_error| {
        // SAFETY: the stream is not released, and its last call failed.
        let message = unsafe { get_last_error(stream) };
        // SAFETY: the message, where there is one, is a string that lives until the next call.
        (!message.is_null()).then(|| unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
    });
    Err(ArrowError::ComputeError(message.unwrap_or_else(|| format!("error {code}"))))
}

fn arrow_error(error: &ArrowError) -> PyErr {
    match error {
        ArrowError::ComputeError(message) => {
            PyRuntimeError::new_err(format!("the Arrow stream failed: {message}"))
        }
        error => PyTypeError::new_err(format!("the Arrow data cannot be read: {error}")),
    }
}

fn single_column(data: ArrayData) -> PyResult<ArrayData> {
    let DataType::Struct(fields) = data.data_type() else {
        return Ok(data);
    };
    if fields.len() != 1 {
        return Err(PyTypeError::new_err(format!(
            "the Arrow data must be one column, not a table of {}",
            fields.len()
        )));
    }
    refuse_nulls(&data, 0)?;
    Ok(data.child_data()[0].slice(data.offset(), data.len()))
}

fn refuse_nulls(data: &ArrayData, first_row: usize) -> PyResult<()> {
    let null = match data.nulls() {
        Some(nulls) if nulls.null_count() > 0 => (0..data.len()).find(|&row| nulls.is_null(row)),
        _ => None,
    };
    null.map_or(Ok(()), |row| Err(null_row(first_row + row)))
}

fn null_row(row: usize) -> PyErr {
    PyValueError::new_err(format!("row {row} of the Arrow data is null"))
}

fn damaged(row: usize) -> PyErr {
    PyValueError::new_err(format!("row {row} of the Arrow data lies outside its buffers"))
}

/// The bytes of all strings in `arrays`.
pub fn text_slices(arrays: &[ArrayData]) -> PyResult<Vec<&[u8]>> {
    let mut slices = Vec::with_capacity(arrays.iter().map(ArrayData::len).sum());
    for array in arrays {
        refuse_nulls(array, slices.len())?;
        push_texts(array, &mut slices)?;
    }
    Ok(slices)
}

fn push_texts<'a>(data: &'a ArrayData, slices: &mut Vec<&'a [u8]>) -> PyResult<()> {
    if data.is_empty() {
        // An empty array may come without any offset.
        return Ok(());
    }
    match data.data_type() {
        DataType::Utf8 | DataType::Binary => push_by_offsets::<i32>(data, slices),
        DataType::LargeUtf8 | DataType::LargeBinary => push_by_offsets::<i64>(data, slices),
        DataType::Utf8View | DataType::BinaryView => push_views(data, slices),
        DataType::Dictionary(keys, _) => match keys.as_ref() {
            DataType::Int8 => push_dictionary::<i8>(data, slices),
            DataType::Int16 => push_dictionary::<i16>(data, slices),
            DataType::Int32 => push_dictionary::<i32>(data, slices),
            DataType::Int64 => push_dictionary::<i64>(data, slices),
            DataType::UInt8 => push_dictionary::<u8>(data, slices),
            DataType::UInt16 => push_dictionary::<u16>(data, slices),
            DataType::UInt32 => push_dictionary::<u32>(data, slices),
            _ => push_dictionary::<u64>(data, slices),
        },
        DataType::Null => Err(null_row(slices.len())),
        other => Err(PyTypeError::new_err(format!("texts must be Arrow strings or binaries, not {other}"))),
    }
}

fn push_by_offsets<'a, O: ArrowNativeType>(data: &'a ArrayData, slices: &mut Vec<&'a [u8]>) -> PyResult<()> {
    let offsets = &data.buffers()[0].typed_data::<O>()[data.offset()..][..=data.len()];
    let bytes = data.buffers()[1].as_slice();
    for pair in offsets.windows(2) {
        let range = pair[0].to_usize().zip(pair[1].to_usize());
        let text = range.and_then(|(start, end)| bytes.get(start..end));
        slices.push(text.ok_or_else(|| damaged(slices.len()))?);
    }
    Ok(())
}

/// A view is 16 bytes: the length; then up to 12 bytes of the text itself, or 4 of them for
/// comparisons, the number of a buffer and the offset in it.
fn push_views<'a>(data: &'a ArrayData, slices: &mut Vec<&'a [u8]>) -> PyResult<()> {
    let (views, buffers) = (&data.buffers()[0], &data.buffers()[1..]);
    let views = &views.as_slice()[data.offset() * 16..][..data.len() * 16];
    for view in views.chunks_exact(16) {
        let word = |at| u32::from_ne_bytes([view[at], view[at + 1], view[at + 2], view[at + 3]]) as usize;
        let len = word(0);
        let text = if len <= 12 {
            view.get(4..4 + len)
        } else {
            buffers.get(word(8)).and_then(|buffer| buffer.as_slice().get(word(12)..)?.get(..len))
        };
        slices.push(text.ok_or_else(|| damaged(slices.len()))?);
    }
    Ok(())
}

fn push_dictionary<'a, K: ArrowNativeType>(data: &'a ArrayData, slices: &mut Vec<&'a [u8]>) -> PyResult<()> {
    let values = &data.child_data()[0];
    let mut texts = Vec::with_capacity(values.len());
    push_texts(values, &mut texts)?;
    for key in &data.buffers()[0].typed_data::<K>()[data.offset()..][..data.len()] {
        let key = key.to_usize().filter(|&key| key < texts.len()).ok_or_else(|| damaged(slices.len()))?;
        if values.is_null(key) {
            return Err(null_row(slices.len()));
        }
        slices.push(texts[key]);
    }
    Ok(())
}

/// Appends the ids of all lists in `arrays`, and after each list the number of ids so far.
pub fn push_lists(
    arrays: &[ArrayData],
    vocab_size: usize,
    ids: &mut Vec<TokenId>,
    offsets: &mut Vec<i64>,
) -> PyResult<()> {
    for array in arrays {
        if array.is_empty() {
            continue;
        }
        refuse_nulls(array, offsets.len() - 1)?;
        match array.data_type() {
            DataType::List(_) => push_lists_by_offsets::<i32>(array, vocab_size, ids, offsets)?,
            DataType::LargeList(_) => push_lists_by_offsets::<i64>(array, vocab_size, ids, offsets)?,
            other => {
                return Err(PyTypeError::new_err(format!("ids must be Arrow lists of integers, not {other}")))
            }
        }
    }
    Ok(())
}

fn push_lists_by_offsets<O: ArrowNativeType>(
    data: &ArrayData,
    vocab_size: usize,
    ids: &mut Vec<TokenId>,
    offsets: &mut Vec<i64>,
) -> PyResult<()> {
    let items = &data.child_data()[0];
    for pair in data.buffers()[0].typed_data::<O>()[data.offset()..][..=data.len()].windows(2) {
        let row = offsets.len() - 1;
        let range = pair[0].to_usize().zip(pair[1].to_usize());
        let Some((start, end)) = range.filter(|&(start, end)| start <= end && end <= items.len()) else {
            return Err(damaged(row));
        };
        let list = items.slice(start, end - start);
        refuse_nulls(&list, 0).map_err(|_| PyValueError::new_err(format!("ids[{row}] holds a null")))?;
        let source = IdSource { row: Some(row), vocab_size: Some(vocab_size) };
        match list.data_type() {
            DataType::UInt32 => push_integers::<u32>(&list, &source, ids)?,
            DataType::Int64 => push_integers::<i64>(&list, &source, ids)?,
            DataType::Int32 => push_integers::<i32>(&list, &source, ids)?,
            DataType::UInt64 => push_integers::<u64>(&list, &source, ids)?,
            DataType::UInt16 => push_integers::<u16>(&list, &source, ids)?,
            DataType::Int16 => push_integers::<i16>(&list, &source, ids)?,
            other => {
                return Err(PyTypeError::new_err(format!(
                    "ids must be Arrow lists of integers, not of {other}"
                )))
            }
        }
        offsets.push(ids.len() as i64);
    }
    Ok(())
}

fn push_integers<T: ArrowNativeType + TryInto<TokenId> + std::fmt::Display>(
    list: &ArrayData,
    source: &IdSource,
    ids: &mut Vec<TokenId>,
) -> PyResult<()> {
    let items = list.buffers()[0].typed_data::<T>();
    for (index, &id) in items[list.offset()..][..list.len()].iter().enumerate() {
        ids.push(id.try_into().map_err(|_| source.out_of_range(id, index))?);
    }
    Ok(())
}

/// The capsules of `large_list<uint32>`, over the same memory.
pub fn export_lists<'py>(py: Python<'py>, lists: &Ragged<TokenId>) -> PyResult<Bound<'py, PyTuple>> {
    let field = Arc::new(Field::new_list_field(DataType::UInt32, true));
    let ids = Arc::new(UInt32Array::new(lists.values.clone(), None));
    let lists = LargeListArray::try_new(field, OffsetBuffer::new(lists.offsets.clone()), ids, None);
    export(py, &lists.map_err(|error| arrow_error(&error))?.to_data())
}

/// The capsules of `large_utf8`, over the same memory.
///
/// # Safety
/// Every row is UTF-8.
pub unsafe fn export_texts<'py>(py: Python<'py>, texts: &Ragged<u8>) -> PyResult<Bound<'py, PyTuple>> {
    let (offsets, bytes) = (OffsetBuffer::new(texts.offsets.clone()), texts.values.inner().clone());
    // SAFETY: the offsets never fall and end with the number of bytes, and the caller vouches for UTF-8.
    let texts = unsafe { LargeStringArray::new_unchecked(offsets, bytes, None) };
    export(py, &texts.to_data())
}

fn export<'py>(py: Python<'py>, data: &ArrayData) -> PyResult<Bound<'py, PyTuple>> {
    let (array, schema) = to_ffi(data).map_err(|error| arrow_error(&error))?;
    (PyCapsule::new_with_value(py, schema, SCHEMA)?, PyCapsule::new_with_value(py, array, ARRAY)?)
        .into_pyobject(py)
}
