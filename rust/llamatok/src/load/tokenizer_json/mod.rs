//! `tokenizer.json`: the files of the HF tokenizers library (format version "1.0", library 0.23.2).
//!
//! A file states a pipeline of its own. It is read whole, and what cannot be done exactly as the library
//! does it is refused, by the name of the component.

mod document;
mod json;
mod model;
mod parts;
mod write;

use document::Document;
use json::{Json, Node};

use super::{too_large, MAX_MODEL_BYTES};
use crate::components::{growth, BpeModel, TokenizerJson};
use crate::{AddedToken, Error, Result, TokenId};

pub use write::{write, write_as, Spelling};

/// Reads a `tokenizer.json` from memory.
///
/// # Errors
/// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) where the data is no JSON, damaged, or
/// contradicts itself; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where it asks for what is
/// not supported. The error names the field.
///
/// ```
/// let file = br#"{"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}"#;
/// let error = llamatok::load::tokenizer_json::read(file).unwrap_err();
/// assert_eq!(error.field(), Some("model.type"));
/// ```
pub fn read(data: &[u8]) -> Result<TokenizerJson> {
    if data.len() > MAX_MODEL_BYTES {
        return Err(too_large(data.len() as u64));
    }
    let document: Document<'_> = serde_json::from_slice(data).map_err(|error| {
        Error::model_format("file", format!("no sound `tokenizer.json`: {error}\nhint: get the file again"))
    })?;
    let sections = Json::Object(document.sections);
    let root = Node::new("", &sections);
    // Paths begin with the name of a section.
    let section = |name: &str| -> Result<Option<Node<'_>>> {
        Ok(root.optional(name)?.map(|node| Node::new(name, node.value)))
    };
    if let Some(version) = section("version")? {
        if version.string()? != "1.0" {
            return Err(Error::unsupported(
                "version",
                format!("version {:?}, not \"1.0\"", version.string()?),
            ));
        }
    }
    let Some(model) = document.model else {
        return Err(Error::model_format("model", "the section is missing"));
    };
    let model = model::read(model)?;
    let added_tokens = match section("added_tokens")? {
        Some(node) => assign_ids(parts::added_tokens(&node)?, &model)?,
        None => Vec::new(),
    };
    let normalizer = section("normalizer")?.map(|node| parts::normalizer(&node)).transpose()?;
    normalizer.as_ref().map_or(Ok(()), growth::check_normalizer)?;
    let pre_tokenizer = section("pre_tokenizer")?.map(|node| parts::pre_tokenizer(&node)).transpose()?;
    pre_tokenizer.as_ref().map_or(Ok(()), growth::check_pre_tokenizer)?;
    let post_processor = section("post_processor")?.map(|node| parts::post_processor(&node)).transpose()?;
    post_processor.as_ref().map_or(Ok(()), growth::check_post_processor)?;
    let decoder = section("decoder")?.map(|node| parts::decoder(&node)).transpose()?;
    decoder.as_ref().map_or(Ok(()), growth::check_decoder)?;
    Ok(TokenizerJson {
        truncation: section("truncation")?.map(|node| parts::truncation(&node)).transpose()?,
        padding: section("padding")?.map(|node| parts::padding(&node)).transpose()?,
        added_tokens,
        normalizer,
        pre_tokenizer,
        post_processor,
        decoder,
        model,
    })
}

/// Gives added tokens the ids that the library gives them (`AddedVocabulary::add_tokens`), whatever the file
/// says: the id of the same content, added before or of the model, or else the next one.
fn assign_ids(listed: Vec<AddedToken>, model: &BpeModel) -> Result<Vec<AddedToken>> {
    let mut by_content = crate::bpe::Map::default();
    let mut by_id: std::collections::BTreeMap<TokenId, AddedToken> = Default::default();
    let mut next_id = TokenId::try_from(model.vocab_size()).unwrap_or(TokenId::MAX);
    for token in listed.into_iter().filter(|token| !token.content.is_empty()) {
        let known = by_content.get(&token.content).copied().or_else(|| model.token_to_id(&token.content));
        let id = known.unwrap_or(next_id);
        if known.is_none() {
            next_id = next_id.checked_add(1).ok_or_else(|| {
                Error::model_format("added_tokens", "the ids are more than 32 bits can tell apart")
            })?;
        }
        by_content.insert(token.content.clone(), id);
        by_id.insert(id, AddedToken { id, ..token });
    }
    Ok(by_id.into_values().collect())
}
