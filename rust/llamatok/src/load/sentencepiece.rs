//! SentencePiece's `tokenizer.model`: the protobuf message `ModelProto`, which holds the pieces and
//! the settings of its trainer and normalizer.
//!
//! The top level is walked here field by field: an error can then name the byte and the piece,
//! trailing garbage is seen (a protobuf library takes it for fields it does not know), and no list
//! of undecoded pieces is built. The small messages inside are left to prost. Absent fields have
//! the defaults of SentencePiece 0.2.3's schema.

use prost::Message;

use super::{charsmap, control_id, printable, too_large, MAX_MODEL_BYTES};
use crate::vocabulary::MAX_PIECES;
use crate::{Error, Model, ModelFormat, NormalizerSettings, Piece, PieceKind, Result, Vocabulary};

/// What an unknown piece decodes to unless the model says otherwise.
pub(super) const DEFAULT_UNK_SURFACE: &str = " \u{2047} ";

const UNIGRAM: i32 = 1;
const BPE: i32 = 2;

/// `ModelProto.SentencePiece`; the piece is checked to be UTF-8 by [`piece`], which can name it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SentencePiece {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub piece: Option<Vec<u8>>,
    #[prost(float, optional, tag = "2")]
    pub score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    pub r#type: Option<i32>,
}

/// The fields of `TrainerSpec` that matter after training, or that are worth showing.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    pub model_type: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub vocab_size: Option<i32>,
    #[prost(float, optional, tag = "10")]
    pub character_coverage: Option<f32>,
    #[prost(int32, optional, tag = "20")]
    pub max_sentencepiece_length: Option<i32>,
    #[prost(bool, optional, tag = "21")]
    pub split_by_unicode_script: Option<bool>,
    #[prost(bool, optional, tag = "22")]
    pub split_by_whitespace: Option<bool>,
    #[prost(bool, optional, tag = "23")]
    pub split_by_number: Option<bool>,
    #[prost(bool, optional, tag = "24")]
    pub treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "25")]
    pub split_digits: Option<bool>,
    #[prost(bool, optional, tag = "26")]
    pub allow_whitespace_only_pieces: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub byte_fallback: Option<bool>,
    #[prost(string, optional, tag = "44")]
    pub unk_surface: Option<String>,
    #[prost(string, optional, tag = "45")]
    pub unk_piece: Option<String>,
    #[prost(string, optional, tag = "46")]
    pub bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    pub eos_piece: Option<String>,
    #[prost(string, optional, tag = "48")]
    pub pad_piece: Option<String>,
}

/// `NormalizerSpec`, without the fields for training.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub escape_whitespaces: Option<bool>,
}

/// Reads a `ModelProto`.
///
/// # Errors
/// As [`from_bytes`](super::from_bytes).
pub(super) fn read(data: &[u8]) -> Result<Model> {
    if data.len() > MAX_MODEL_BYTES {
        return Err(too_large(data.len() as u64));
    }
    let mut pieces = Vec::new();
    let mut trainer: Option<TrainerSpec> = None;
    let mut normalizer = NormalizerSpec::default();
    let mut denormalizer = NormalizerSpec::default();
    let mut wire = Wire { data, pos: 0 };
    while let Some(Field { number, offset, message }) = wire.next_field()? {
        let in_field = |name: &str, error: prost::DecodeError| {
            Error::model_format(name, format!("byte {offset}: {error}"))
        };
        match (number, message) {
            (1, Some(message)) => {
                let name = || format!("pieces[{}]", pieces.len());
                if pieces.len() == MAX_PIECES {
                    return Err(Error::model_format(
                        "pieces",
                        format!("byte {offset}: more than {MAX_PIECES} pieces"),
                    ));
                }
                let proto = SentencePiece::decode(message).map_err(|error| in_field(&name(), error))?;
                pieces.push(piece(proto).map_err(|message| Error::model_format(name(), message))?);
            }
            // A message field that comes again adds to what it said before, as protobuf has it.
            (2, Some(message)) => trainer
                .get_or_insert_with(TrainerSpec::default)
                .merge(message)
                .map_err(|error| in_field("trainer_spec", error))?,
            (3, Some(message)) => {
                normalizer.merge(message).map_err(|error| in_field("normalizer_spec", error))?;
            }
            (5, Some(message)) => {
                denormalizer.merge(message).map_err(|error| in_field("denormalizer_spec", error))?;
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(Error::model_format("pieces", "the model has no pieces"));
    }
    build(pieces, trainer.unwrap_or_default(), normalizer, &denormalizer, data)
}

fn piece(proto: SentencePiece) -> Result<Piece, String> {
    let text = String::from_utf8(proto.piece.unwrap_or_default()).map_err(|error| {
        format!("the piece {:?} is not valid UTF-8", error.as_bytes().escape_ascii().to_string())
    })?;
    let number = proto.r#type.unwrap_or(PieceKind::Normal as i32);
    let kind = u32::try_from(number).ok().and_then(PieceKind::from_number);
    let kind = kind.ok_or_else(|| format!("the piece {text:?} is of the unknown type {number}"))?;
    Ok(Piece { text, score: proto.score.unwrap_or(0.0), kind })
}

fn build(
    pieces: Vec<Piece>,
    trainer: TrainerSpec,
    normalizer: NormalizerSpec,
    denormalizer: &NormalizerSpec,
    data: &[u8],
) -> Result<Model> {
    check_model_type(trainer.model_type)?;
    if denormalizer.precompiled_charsmap.as_ref().is_some_and(|charsmap| !charsmap.is_empty()) {
        return Err(Error::unsupported(
            "denormalizer_spec.precompiled_charsmap",
            "the model changes decoded text by rules of its own, which is not supported",
        ));
    }
    let precompiled_charsmap = normalizer.precompiled_charsmap.unwrap_or_default();
    charsmap::check_frame(&precompiled_charsmap, "normalizer_spec.precompiled_charsmap")?;
    let metadata = settings(&trainer);
    let vocabulary = Vocabulary::new(pieces, trainer.byte_fallback.unwrap_or(false))?;
    // The ids in the trainer's settings are not heeded, as in SentencePiece: a piece counts by its
    // name, and an empty name means the default one.
    let special = |name: &Option<String>, default: &str| {
        control_id(&vocabulary, name.as_deref().filter(|name| !name.is_empty()).unwrap_or(default))
    };
    let (bos_id, eos_id, pad_id) = (
        special(&trainer.bos_piece, "<s>"),
        special(&trainer.eos_piece, "</s>"),
        special(&trainer.pad_piece, "<pad>"),
    );
    Ok(Model {
        format: ModelFormat::SentencePiece,
        vocabulary,
        normalizer: NormalizerSettings {
            name: normalizer.name.unwrap_or_default(),
            precompiled_charsmap,
            add_dummy_prefix: normalizer.add_dummy_prefix.unwrap_or(true),
            remove_extra_whitespaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
            escape_whitespaces: normalizer.escape_whitespaces.unwrap_or(true),
            treat_whitespace_as_suffix: trainer.treat_whitespace_as_suffix.unwrap_or(false),
        },
        // Set but empty is a choice; only an absent surface has the default.
        unk_surface: trainer.unk_surface.unwrap_or_else(|| DEFAULT_UNK_SURFACE.into()),
        bos_id,
        eos_id,
        pad_id,
        add_bos: None,
        add_eos: None,
        metadata,
        serialized: data.to_vec(),
    })
}

fn check_model_type(model_type: Option<i32>) -> Result<()> {
    let found = match model_type.unwrap_or(UNIGRAM) {
        BPE => return Ok(()),
        UNIGRAM => "a unigram model".to_owned(),
        3 => "a word model".to_owned(),
        4 => "a char model".to_owned(),
        number => format!("a model of the unknown type {number}"),
    };
    let absent = if model_type.is_none() { " (the default, as the file names no type)" } else { "" };
    Err(Error::unsupported(
        "trainer_spec.model_type",
        format!("this is {found}{absent}; only BPE models are supported"),
    ))
}

/// The trainer's settings that tell a person what the vocabulary is like.
fn settings(trainer: &TrainerSpec) -> Vec<(String, String)> {
    let flag = |value: Option<bool>, default: bool| value.unwrap_or(default).to_string();
    let name = |value: &Option<String>, default: &str| {
        printable(value.as_deref().filter(|name| !name.is_empty()).unwrap_or(default))
    };
    let number = |value: Option<i32>, default: i32| value.unwrap_or(default).to_string();
    [
        ("model_type", "bpe".to_owned()),
        ("vocab_size", number(trainer.vocab_size, 8000)),
        ("byte_fallback", flag(trainer.byte_fallback, false)),
        ("character_coverage", trainer.character_coverage.unwrap_or(0.9995).to_string()),
        ("max_sentencepiece_length", number(trainer.max_sentencepiece_length, 16)),
        ("split_by_unicode_script", flag(trainer.split_by_unicode_script, true)),
        ("split_by_whitespace", flag(trainer.split_by_whitespace, true)),
        ("split_by_number", flag(trainer.split_by_number, true)),
        ("split_digits", flag(trainer.split_digits, false)),
        ("allow_whitespace_only_pieces", flag(trainer.allow_whitespace_only_pieces, false)),
        ("unk_piece", name(&trainer.unk_piece, "<unk>")),
        ("bos_piece", name(&trainer.bos_piece, "<s>")),
        ("eos_piece", name(&trainer.eos_piece, "</s>")),
        ("pad_piece", name(&trainer.pad_piece, "<pad>")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The top level of a `ModelProto`.
struct Wire<'a> {
    data: &'a [u8],
    pos: usize,
}

/// A field of the top level, with its message if it is one that is read.
struct Field<'a> {
    number: u64,
    /// Where the field begins.
    offset: usize,
    message: Option<&'a [u8]>,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// Fields from this number on are extensions, which anybody may add.
const FIRST_EXTENSION: u64 = 200;

/// The largest field number of protobuf.
const LAST_FIELD: u64 = (1 << 29) - 1;

impl<'a> Wire<'a> {
    fn next_field(&mut self) -> Result<Option<Field<'a>>> {
        if self.pos == self.data.len() {
            return Ok(None);
        }
        let offset = self.pos;
        let tag = self.varint("ModelProto", offset)?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        let name = match number {
            1 => "pieces",
            2 => "trainer_spec",
            3 => "normalizer_spec",
            4 => "self_test_data", // removed from the schema, still in old files
            5 => "denormalizer_spec",
            FIRST_EXTENSION..=LAST_FIELD => "extension",
            _ => return Err(garbage(offset, &format!("field {number} does not exist"))),
        };
        let bytes = match wire_type {
            VARINT if name == "extension" => self.varint(name, offset).map(|_| None)?,
            FIXED64 if name == "extension" => self.take(8, name, offset).map(|_| None)?,
            FIXED32 if name == "extension" => self.take(4, name, offset).map(|_| None)?,
            LENGTH_DELIMITED => {
                let len = self.varint(name, offset)?;
                Some(self.take(len, name, offset)?)
            }
            _ => return Err(garbage(offset, &format!("field {number} has the wire type {wire_type}"))),
        };
        Ok(Some(Field { number, offset, message: bytes }))
    }

    fn varint(&mut self, name: &str, offset: usize) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1, name, offset)?.first().copied().unwrap_or_default();
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(garbage(offset, "a number is longer than 64 bits"))
    }

    fn take(&mut self, len: u64, name: &str, offset: usize) -> Result<&'a [u8]> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let bytes = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let bytes = bytes.ok_or_else(|| {
            Error::model_format(
                name,
                format!(
                    "byte {offset}: the field needs {len} bytes, but only {} are left: the file is cut off or damaged",
                    rest.len()
                ),
            )
        })?;
        self.pos += bytes.len();
        Ok(bytes)
    }
}

fn garbage(offset: usize, what: &str) -> Error {
    let hint = if offset == 0 {
        "this is neither a SentencePiece model nor a GGUF file"
    } else {
        "the file is damaged or has trailing garbage"
    };
    Error::model_format("ModelProto", format!("byte {offset}: {what}: {hint}"))
}
