//! GGUF files with a SentencePiece vocabulary (`tokenizer.ggml.model = "llama"`), as llama.cpp's
//! converter writes them.
//!
//! Such a file says less than the model it was made from. What it leaves out is as in llama.cpp:
//! unknown characters always fall back to bytes, spaces are escaped, and nothing is normalized
//! unless the file brings a table.

use std::io::Read;

use super::gguf_metadata::{Metadata, Type, Value};
use super::sentencepiece::DEFAULT_UNK_SURFACE;
use super::{charsmap, control_id, printable};
use crate::vocabulary::MAX_PIECES;
use crate::{Error, Model, ModelFormat, NormalizerSettings, Piece, PieceKind, Result, TokenId, Vocabulary};

pub(super) use super::gguf_metadata::MAGIC;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const BOS_ID: &str = "tokenizer.ggml.bos_token_id";
const EOS_ID: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN_ID: &str = "tokenizer.ggml.unknown_token_id";
const PADDING_ID: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const REMOVE_EXTRA_WHITESPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const ESCAPE_WHITESPACES: &str = "tokenizer.ggml.escape_whitespaces";
const TREAT_WHITESPACE_AS_SUFFIX: &str = "tokenizer.ggml.treat_whitespace_as_suffix";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// Reads a GGUF file from its beginning, up to the end of its metadata. `name` is for I/O errors.
///
/// # Errors
/// As [`from_file`](super::from_file).
pub(super) fn read(source: impl Read, name: &str) -> Result<Model> {
    let metadata = Metadata::read(source, name)?;
    check_model(&metadata)?;
    let mut pieces = pieces(&metadata)?;
    let id = |key| metadata.id(key, pieces.len());
    let (bos_id, eos_id, pad_id, unk_id) = (id(BOS_ID)?, id(EOS_ID)?, id(PADDING_ID)?, id(UNKNOWN_ID)?);
    if let Some(id) = unk_id {
        mark_unknown(&mut pieces, id)?;
    }
    let vocabulary = Vocabulary::new(pieces, true)?;
    let precompiled_charsmap = metadata.charsmap()?;
    let rules = if precompiled_charsmap.is_empty() { "identity" } else { "custom" };
    let normalizer = NormalizerSettings {
        name: rules.into(),
        precompiled_charsmap,
        add_dummy_prefix: metadata.flag(ADD_SPACE_PREFIX)?.unwrap_or(true),
        remove_extra_whitespaces: metadata.flag(REMOVE_EXTRA_WHITESPACES)?.unwrap_or(false),
        escape_whitespaces: metadata.flag(ESCAPE_WHITESPACES)?.unwrap_or(true),
        treat_whitespace_as_suffix: metadata.flag(TREAT_WHITESPACE_AS_SUFFIX)?.unwrap_or(false),
    };
    Ok(Model {
        format: ModelFormat::Gguf,
        bos_id: bos_id.or_else(|| control_id(&vocabulary, "<s>")),
        eos_id: eos_id.or_else(|| control_id(&vocabulary, "</s>")),
        pad_id: pad_id.or_else(|| control_id(&vocabulary, "<pad>")),
        add_bos: metadata.flag(ADD_BOS)?,
        add_eos: metadata.flag(ADD_EOS)?,
        vocabulary,
        normalizer,
        unk_surface: DEFAULT_UNK_SURFACE.into(),
        metadata: metadata.settings(),
        serialized: metadata.bytes,
    })
}

fn check_model(metadata: &Metadata) -> Result<()> {
    match metadata.values.get(MODEL) {
        None => Err(Error::model_format(MODEL, "the key is missing: the file holds no tokenizer")),
        Some(Value::String(span)) => match metadata.bytes.get(span.clone()).unwrap_or_default() {
            b"llama" => Ok(()),
            found => Err(Error::unsupported(
                MODEL,
                format!(
                    "this is a tokenizer of the kind `{}`; only `llama` (SentencePiece BPE) is supported",
                    printable(&String::from_utf8_lossy(found))
                ),
            )),
        },
        Some(value) => Err(wrong_type(MODEL, value, "a string")),
    }
}

/// The piece that the file names as unknown is so even if its kind says `CONTROL`, as converters
/// write it that count `<unk>` among a model's special tokens.
fn mark_unknown(pieces: &mut [Piece], id: TokenId) -> Result<()> {
    let kinds = pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
    let piece = usize::try_from(id).ok().and_then(|index| pieces.get_mut(index));
    match (piece, kinds) {
        (Some(piece), _) if piece.kind == PieceKind::Unknown => Ok(()),
        (Some(piece), None) if piece.kind == PieceKind::Control => {
            piece.kind = PieceKind::Unknown;
            Ok(())
        }
        (Some(piece), _) => Err(Error::model_format(
            UNKNOWN_ID,
            format!("id {id} is the piece {:?} of kind {}, not UNKNOWN", piece.text, piece.kind.name()),
        )),
        (None, _) => Ok(()),
    }
}

fn pieces(metadata: &Metadata) -> Result<Vec<Piece>> {
    let (tokens, count) = metadata.list(TOKENS, Type::String, "an array of strings")?;
    if count > MAX_PIECES as u64 {
        return Err(Error::model_format(
            TOKENS,
            format!("{count} tokens, more than the limit of {MAX_PIECES}"),
        ));
    }
    let of_same_length = |key: &str, of, wanted| match metadata.list(key, of, wanted)? {
        (span, found) if found == count => Ok(span),
        (_, found) => Err(Error::model_format(key, format!("{found} entries for {count} tokens"))),
    };
    let scores = of_same_length(SCORES, Type::F32, "an array of 32-bit floating-point numbers")?;
    let kinds = of_same_length(TOKEN_TYPES, Type::I32, "an array of 32-bit integers")?;
    let scores = metadata.elements(&scores).map(f32::from_le_bytes);
    let kinds = metadata.elements(&kinds).map(i32::from_le_bytes);
    // The file really holds this many tokens, of 8 bytes or more, and no more than the limit.
    let mut pieces = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for (index, ((text, score), kind)) in metadata.strings(&tokens).zip(scores).zip(kinds).enumerate() {
        let text = std::str::from_utf8(text).map_err(|_| {
            let text = text.escape_ascii().to_string();
            Error::model_format(
                format!("{TOKENS}[{index}]"),
                format!("the token \"{text}\" is not valid UTF-8"),
            )
        })?;
        let number = kind;
        let kind = u32::try_from(number).ok().and_then(PieceKind::from_number).ok_or_else(|| {
            Error::model_format(
                format!("{TOKEN_TYPES}[{index}]"),
                format!("the token {text:?} is of the unknown type {number}"),
            )
        })?;
        pieces.push(Piece { text: text.to_owned(), score, kind });
    }
    Ok(pieces)
}

fn wrong_type(key: &str, found: &Value, wanted: &str) -> Error {
    Error::model_format(key, format!("the value is {}, but should be {wanted}", found.kind()))
}

impl Metadata {
    /// The place and the length of an array that must be there.
    fn list(&self, key: &str, of: Type, wanted: &str) -> Result<(std::ops::Range<usize>, u64)> {
        match self.values.get(key) {
            None => Err(Error::model_format(key, "the key is missing")),
            Some(Value::Array { of: found, count, span }) if *found == of => Ok((span.clone(), *count)),
            Some(value) => Err(wrong_type(key, value, wanted)),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(wrong_type(key, value, "a bool")),
        }
    }

    fn id(&self, key: &str, vocab_size: usize) -> Result<Option<TokenId>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Integer(id)) => match TokenId::try_from(*id) {
                Ok(id) if usize::try_from(id).is_ok_and(|id| id < vocab_size) => Ok(Some(id)),
                _ => Err(Error::model_format(
                    key,
                    format!("id {id} is out of range: the vocabulary has {vocab_size} pieces"),
                )),
            },
            Some(value) => Err(wrong_type(key, value, "an integer")),
        }
    }

    fn charsmap(&self) -> Result<Vec<u8>> {
        let charsmap = match self.values.get(CHARSMAP) {
            None => return Ok(Vec::new()),
            // Some converters take the bytes for signed ones.
            Some(Value::Array { of: Type::U8 | Type::I8, span, .. }) => {
                self.bytes.get(span.clone()).unwrap_or_default().to_vec()
            }
            Some(value) => return Err(wrong_type(CHARSMAP, value, "an array of bytes")),
        };
        charsmap::check_frame(&charsmap, CHARSMAP)?;
        Ok(charsmap)
    }

    /// The scalars and short strings of the metadata, in the order of their keys.
    fn settings(&self) -> Vec<(String, String)> {
        const MAX_SHOWN: usize = 256;
        let shown = self.values.iter().filter_map(|(key, value)| {
            let value = match value {
                Value::Integer(number) => number.to_string(),
                Value::F32(number) => number.to_string(),
                Value::F64(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                Value::String(span) if span.len() <= MAX_SHOWN => {
                    let bytes = self.bytes.get(span.clone()).unwrap_or_default();
                    printable(&String::from_utf8_lossy(bytes))
                }
                Value::String(_) | Value::Array { .. } => return None,
            };
            Some((printable(key), value))
        });
        let version = ("gguf.version".to_owned(), self.version.to_string());
        std::iter::once(version).chain(shown).take(MAX_SHOWN).collect()
    }
}
