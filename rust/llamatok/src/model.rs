//! What a model file says: the vocabulary and the settings of the pipeline.

use crate::vocabulary::{TokenId, Vocabulary};

/// The kind of file that a model was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFormat {
    /// A SentencePiece `tokenizer.model` (protobuf `ModelProto`).
    SentencePiece,
    /// A GGUF file with `tokenizer.ggml.model = "llama"`.
    Gguf,
}

impl ModelFormat {
    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::SentencePiece => "sentencepiece",
            Self::Gguf => "gguf",
        }
    }
}

/// How text is changed before it is merged: SentencePiece's `NormalizerSpec`, and the one setting
/// of its `TrainerSpec` that the normalizer heeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalizerSettings {
    /// The name of the rule set (`identity`, `nmt_nfkc`, ...); for display only.
    pub name: String,
    /// The compiled rules (a double-array trie and its replacements); empty for none.
    pub precompiled_charsmap: Vec<u8>,
    /// Whether a space is put in front of the text (behind it, with `treat_whitespace_as_suffix`).
    pub add_dummy_prefix: bool,
    /// Whether leading, trailing and doubled spaces are removed.
    pub remove_extra_whitespaces: bool,
    /// Whether spaces become `▁`.
    pub escape_whitespaces: bool,
    /// Whether `▁` belongs to the end of a word.
    pub treat_whitespace_as_suffix: bool,
}

/// A loaded model: data only; [`Tokenizer`](crate::Tokenizer) makes it run.
#[derive(Debug, Clone)]
pub struct Model {
    /// The kind of file.
    pub format: ModelFormat,
    /// The pieces.
    pub vocabulary: Vocabulary,
    /// The settings of the normalizer.
    pub normalizer: NormalizerSettings,
    /// What an unknown piece is decoded to (SentencePiece's default: ` ⁇ `, with its spaces).
    pub unk_surface: String,
    /// The id of the beginning-of-sequence token, if the model has one.
    pub bos_id: Option<TokenId>,
    /// The id of the end-of-sequence token, if the model has one.
    pub eos_id: Option<TokenId>,
    /// The id of the padding token, if the model has one.
    pub pad_id: Option<TokenId>,
    /// Whether the file asks for a beginning-of-sequence token (GGUF only).
    pub add_bos: Option<bool>,
    /// Whether the file asks for an end-of-sequence token (GGUF only).
    pub add_eos: Option<bool>,
    /// Other settings worth showing to a person, as (name, value).
    pub metadata: Vec<(String, String)>,
    /// The bytes that the model can be read from again: the whole of a `tokenizer.model`, the
    /// header and metadata of a GGUF file.
    pub serialized: Vec<u8>,
}

#[cfg(test)]
use crate::vocabulary::{Piece, PieceKind};

#[cfg(test)]
impl Model {
    /// A model of Llama's settings: `<unk>`, `<s>`, `</s>`, the 256 byte pieces where `bytes` asks for them, and then
    /// `pieces`.
    pub(crate) fn like_llama(bytes: bool, pieces: impl IntoIterator<Item = Piece>) -> Self {
        let special =
            [("<unk>", PieceKind::Unknown), ("<s>", PieceKind::Control), ("</s>", PieceKind::Control)];
        let special = special.map(|(text, kind)| Piece { text: text.into(), score: 0.0, kind });
        let byte = |byte: u8| Piece { text: format!("<0x{byte:02X}>"), score: 0.0, kind: PieceKind::Byte };
        let bytes_of = (0..=255).map(byte).filter(|_| bytes);
        Self {
            format: ModelFormat::SentencePiece,
            vocabulary: Vocabulary::new(special.into_iter().chain(bytes_of).chain(pieces).collect(), bytes)
                .unwrap(),
            normalizer: NormalizerSettings {
                name: "identity".into(),
                precompiled_charsmap: Vec::new(),
                add_dummy_prefix: true,
                remove_extra_whitespaces: false,
                escape_whitespaces: true,
                treat_whitespace_as_suffix: false,
            },
            unk_surface: " \u{2047} ".into(),
            bos_id: Some(1),
            eos_id: Some(2),
            pad_id: None,
            add_bos: None,
            add_eos: None,
            metadata: Vec::new(),
            serialized: Vec::new(),
        }
    }
}
