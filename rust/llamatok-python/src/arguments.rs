//! What Python hands a pipeline, and the core's types for it.

use llamatok::components::{Side, TruncationStrategy};
use llamatok::post_process::{TemplateItem, Templates};
use llamatok::{AddedToken, TokenId};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::call_error;
use crate::utf8::Utf8;

/// (id, content, single_word, lstrip, rstrip, normalized, special)
pub type AddedTokenTuple = (TokenId, String, bool, bool, bool, bool, bool);
/// ("A" or "B", None, type id), or (token, id, type id)
pub type TemplateTuple = (String, Option<TokenId>, u32);

/// An added token.
pub fn added_token(
    (id, content, single_word, lstrip, rstrip, normalized, special): AddedTokenTuple,
) -> AddedToken {
    AddedToken { id, content, single_word, lstrip, rstrip, normalized, special }
}

fn template_item((name, id, type_id): TemplateTuple) -> PyResult<TemplateItem> {
    match (name.as_str(), id) {
        ("A", None) => Ok(TemplateItem::Sequence { sequence: 0, type_id }),
        ("B", None) => Ok(TemplateItem::Sequence { sequence: 1, type_id }),
        (_, Some(id)) => Ok(TemplateItem::Token { token: name, id, type_id }),
        (_, None) => Err(PyValueError::new_err(format!(
            "template: {name:?} has no id, and is none of the sequences \"A\" and \"B\""
        ))),
    }
}

/// A part of a template as Python has it.
pub fn template_tuple(item: &TemplateItem) -> TemplateTuple {
    match item {
        TemplateItem::Sequence { sequence: 0, type_id } => ("A".into(), None, *type_id),
        TemplateItem::Sequence { type_id, .. } => ("B".into(), None, *type_id),
        TemplateItem::Token { token, id, type_id } => (token.clone(), Some(*id), *type_id),
    }
}

/// Templates for one text and for two.
///
/// # Errors
/// A `ValueError` where a part is neither a token with an id nor a sequence, or its type id is more than
/// int32 holds.
pub fn templates(single: &Bound<'_, PyAny>, pair: &Bound<'_, PyAny>) -> PyResult<Templates> {
    let items = |items: &Bound<'_, PyAny>| {
        items.try_iter()?.map(|item| template_item(item?.extract()?)).collect::<PyResult<Vec<_>>>()
    };
    Templates::new(items(single)?, items(pair)?).map_err(|error| call_error(&error))
}

/// From which text to cut.
///
/// # Errors
/// A `ValueError` for another name.
pub fn strategy(name: &str) -> PyResult<TruncationStrategy> {
    match name {
        "longest_first" => Ok(TruncationStrategy::LongestFirst),
        "only_first" => Ok(TruncationStrategy::OnlyFirst),
        "only_second" => Ok(TruncationStrategy::OnlySecond),
        _ => Err(PyValueError::new_err(format!(
            "truncation must be 'longest_first', 'only_first' or 'only_second', not {name:?}"
        ))),
    }
}

/// The side that the argument `argument` names.
///
/// # Errors
/// A `ValueError` for another name.
pub fn side(argument: &str, name: &str) -> PyResult<Side> {
    match name {
        "left" => Ok(Side::Left),
        "right" => Ok(Side::Right),
        _ => Err(PyValueError::new_err(format!("{argument} must be 'left' or 'right', not {name:?}"))),
    }
}

/// The name of a side.
pub fn side_name(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
    }
}

/// A number that is not negative.
///
/// # Errors
/// A `ValueError` for others.
pub fn size(argument: &str, size: i64) -> PyResult<usize> {
    usize::try_from(size).map_err(|_| PyValueError::new_err(format!("{argument} must not be negative")))
}

/// One `str`.
///
/// # Errors
/// A `TypeError` for anything else, a `UnicodeEncodeError` for lone surrogates.
pub fn text<'a>(name: &str, text: &'a Bound<'_, PyAny>, utf8: &'a Utf8) -> PyResult<&'a str> {
    match text.cast::<PyString>() {
        Ok(text) => utf8.of(text),
        Err(_) => Err(PyTypeError::new_err(format!("{name} must be str, not {}", text.get_type().name()?))),
    }
}
