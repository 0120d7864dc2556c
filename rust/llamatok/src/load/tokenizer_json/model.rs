//! The section `model`.

use std::borrow::Cow;

use super::document::{RawMerge, RawModel, RawVocab};
use super::json::{Json, Node};
use crate::bpe::Map;
use crate::components::BpeModel;
use crate::load::printable;
use crate::vocabulary::MAX_PIECES;
use crate::{Error, Result, TokenId};

/// Reads the section, as the library's `BpeBuilder::build` does.
pub(super) fn read(raw: RawModel<'_>) -> Result<BpeModel> {
    let fields = Json::Object(raw.fields);
    let node = Node::new("model", &fields);
    let kind = match node.optional("type")? {
        Some(kind) => Some(kind.string()?),
        None => None,
    };
    // Old files have no type; those with merges are of BPE models.
    match kind {
        Some("BPE") => {}
        None if raw.merges.is_some() => {}
        _ => {
            let kind =
                kind.map_or_else(|| "a model without merges".into(), |kind| format!("`{}`", printable(kind)));
            return Err(Error::unsupported(
                "model.type",
                format!("{kind} is not supported; only `BPE` models are"),
            ));
        }
    }
    let vocab = match raw.vocab {
        Some(RawVocab::Map(vocab)) => vocab,
        Some(RawVocab::List) => {
            return Err(Error::model_format(
                "model.vocab",
                "an object of tokens and ids is expected, not an array",
            ))
        }
        None => return Err(Error::model_format("model", "the key \"vocab\" is missing")),
    };
    let Some(merges) = raw.merges else {
        return Err(Error::model_format("model", "the key \"merges\" is missing"));
    };
    if vocab.len() > MAX_PIECES {
        let message = format!("{} tokens, more than the limit of {MAX_PIECES}", vocab.len());
        return Err(Error::model_format("model.vocab", message));
    }
    let mut model = BpeModel::new(vocab)?;
    model.merges = resolve(&merges, &model)?;

    let text = |key: &str| -> Result<Option<String>> {
        node.optional(key)?.map(|field| field.string().map(String::from)).transpose()
    };
    let flag = |key: &str| -> Result<bool> {
        Ok(node.optional(key)?.map(|field| field.boolean()).transpose()?.unwrap_or(false))
    };
    model.unk_token = text("unk_token")?;
    model.continuing_subword_prefix = text("continuing_subword_prefix")?;
    model.end_of_word_suffix = text("end_of_word_suffix")?;
    model.fuse_unk = flag("fuse_unk")?;
    model.byte_fallback = flag("byte_fallback")?;
    model.ignore_merges = flag("ignore_merges")?;
    if let Some(field) = node.optional("dropout")? {
        let dropout = field.number()? as f32;
        if !(0.0..=1.0).contains(&dropout) {
            return Err(field.fault(format!("{dropout} is no probability: it should be between 0 and 1")));
        }
        model.dropout = Some(dropout);
    }
    for (name, value) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            let message = format!("{:?} is not supported; only models without are", printable(value));
            return Err(Error::unsupported(format!("model.{name}"), message));
        }
    }
    let unk_is_needed = !model.byte_fallback || model.byte_ids().is_none();
    if let Some(unk) = model.unk_token.as_deref().filter(|_| unk_is_needed && model.unk_id().is_none()) {
        let message = format!("{:?} is not in the vocabulary", printable(unk));
        return Err(Error::model_format("model.unk_token", message));
    }
    Ok(model)
}

/// The ids of merges: left, right and product. Of a pair that comes twice the last place counts.
fn resolve(merges: &[RawMerge<'_>], model: &BpeModel) -> Result<Vec<(TokenId, TokenId, TokenId)>> {
    let is_lines = matches!(merges.first(), Some(RawMerge::Line(_)));
    let mut resolved = Vec::with_capacity(merges.len());
    let mut places = Map::with_capacity_and_hasher(merges.len(), Default::default());
    let mut product = String::new();
    for (index, merge) in merges.iter().enumerate() {
        let fault = |message: String| Error::model_format(format!("model.merges[{index}]"), message);
        let (left, right) = match merge {
            RawMerge::Line(line) if is_lines => {
                if line.starts_with("#version") {
                    continue;
                }
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => (left, right),
                    _ => {
                        return Err(fault(format!(
                            "{:?} is not two tokens with one space between",
                            printable(line)
                        )))
                    }
                }
            }
            RawMerge::Pair(left, right) if !is_lines => (Cow::as_ref(left), Cow::as_ref(right)),
            _ => return Err(fault("strings and pairs are mixed: all merges should be of one form".into())),
        };
        product.clear();
        product.push_str(left);
        product.push_str(right);
        let id = |token: &str| {
            model
                .token_to_id(token)
                .ok_or_else(|| fault(format!("{:?} is not in the vocabulary", printable(token))))
        };
        let merge = (id(left)?, id(right)?, id(&product)?);
        places.insert((merge.0, merge.1), resolved.len());
        resolved.push(merge);
    }
    if places.len() < resolved.len() {
        let mut place = 0;
        resolved.retain(|&(left, right, _)| {
            place += 1;
            places.get(&(left, right)) == Some(&(place - 1))
        });
    }
    Ok(resolved)
}
