//! Saving a `tokenizer.json`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::components::{
    BpeModel, Decoder, Metaspace, Normalizer, Padding, PaddingStrategy, Pattern, PostProcessor, PreTokenizer,
    PrependScheme, Side, SpecialToken, Template, TemplatePiece, TemplateSequence, TokenizerJson, Truncation,
    TruncationStrategy,
};
use crate::{AddedToken, TokenId};

/// How a file is spelled; it means the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As the HF tokenizers library (0.23.2) saves it: the same keys in the same order, two spaces of
    /// indentation.
    Current,
    /// So that old versions (0.15) read it, too: merges as strings, unless a token of a merge holds a space,
    /// and `add_prefix_space` besides `prepend_scheme`. (What they do not know, such as `split`, they still
    /// pass over.)
    Old,
}

/// The file, spelled as the library saves it.
pub fn write(tokenizer: &TokenizerJson) -> Vec<u8> {
    write_as(tokenizer, Spelling::Current)
}

/// The file.
pub fn write_as(tokenizer: &TokenizerJson, spelling: Spelling) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 << 16);
    let mut serializer = serde_json::Serializer::with_formatter(
        &mut data,
        serde_json::ser::PrettyFormatter::with_indent(b"  "),
    );
    let TokenizerJson {
        truncation,
        padding,
        added_tokens,
        normalizer,
        pre_tokenizer,
        post_processor,
        decoder,
        model,
    } = tokenizer;
    let document = map([
        ("version", Value::from("1.0")),
        ("truncation", or_null(truncation, of_truncation)),
        ("padding", or_null(padding, of_padding)),
        ("added_tokens", added_tokens.iter().map(of_added_token).collect()),
        ("normalizer", or_null(normalizer, of_normalizer)),
        ("pre_tokenizer", or_null(pre_tokenizer, |part| of_pre_tokenizer(part, spelling))),
        ("post_processor", or_null(post_processor, of_post_processor)),
        ("decoder", or_null(decoder, |part| of_decoder(part, spelling))),
        ("model", of_model(model, spelling)),
    ]);
    let result = document.serialize(&mut serializer);
    // All keys are strings, and nothing is written but to memory.
    debug_assert!(result.is_ok());
    data
}

/// What is written.
enum Value<'a> {
    Null,
    Bool(bool),
    Integer(u64),
    Float(f32),
    Text(std::borrow::Cow<'a, str>),
    List(Vec<Value<'a>>),
    Map(Vec<(&'a str, Value<'a>)>),
    Merges(&'a BpeModel, Spelling),
    Vocab(&'a BpeModel),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<usize> for Value<'_> {
    fn from(value: usize) -> Self {
        Self::Integer(value as u64)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl<'a> FromIterator<Value<'a>> for Value<'a> {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

fn map<'a, const N: usize>(entries: [(&'a str, Value<'a>); N]) -> Value<'a> {
    Value::Map(entries.into())
}

fn or_null<'a, T>(value: &'a Option<T>, of: impl Fn(&'a T) -> Value<'a>) -> Value<'a> {
    value.as_ref().map_or(Value::Null, of)
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f32(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
            Self::Vocab(model) => {
                let mut out = serializer.serialize_map(Some(model.vocab_size()))?;
                for (token, id) in model.iter() {
                    out.serialize_entry(token, &id)?;
                }
                out.end()
            }
            Self::Merges(model, spelling) => {
                let token = |id: TokenId| model.id_to_token(id).unwrap_or_default();
                let merges = || model.merges.iter().map(|&(left, right, _)| [token(left), token(right)]);
                // A string that begins so would be taken for a comment.
                let is_plain = |merge: [&str; 2]| {
                    merge.iter().all(|token| !token.contains(' ')) && !merge[0].starts_with("#version")
                };
                if *spelling == Spelling::Old && merges().all(is_plain) {
                    serializer.collect_seq(merges().map(|merge| merge.join(" ")))
                } else {
                    serializer.collect_seq(merges())
                }
            }
        }
    }
}

fn of_side(side: &Side) -> Value<'static> {
    match side {
        Side::Left => "Left".into(),
        Side::Right => "Right".into(),
    }
}

fn of_truncation(truncation: &Truncation) -> Value<'_> {
    let strategy = match truncation.strategy {
        TruncationStrategy::LongestFirst => "LongestFirst",
        TruncationStrategy::OnlyFirst => "OnlyFirst",
        TruncationStrategy::OnlySecond => "OnlySecond",
    };
    map([
        ("direction", of_side(&truncation.direction)),
        ("max_length", truncation.max_length.into()),
        ("strategy", strategy.into()),
        ("stride", truncation.stride.into()),
    ])
}

fn of_padding(padding: &Padding) -> Value<'_> {
    let strategy = match padding.strategy {
        PaddingStrategy::BatchLongest => "BatchLongest".into(),
        PaddingStrategy::Fixed(length) => map([("Fixed", length.into())]),
    };
    map([
        ("strategy", strategy),
        ("direction", of_side(&padding.direction)),
        ("pad_to_multiple_of", or_null(&padding.pad_to_multiple_of, |&length| length.into())),
        ("pad_id", padding.pad_id.into()),
        ("pad_type_id", padding.pad_type_id.into()),
        ("pad_token", padding.pad_token.as_str().into()),
    ])
}

fn of_added_token(token: &AddedToken) -> Value<'_> {
    map([
        ("id", token.id.into()),
        ("content", token.content.as_str().into()),
        ("single_word", token.single_word.into()),
        ("lstrip", token.lstrip.into()),
        ("rstrip", token.rstrip.into()),
        ("normalized", token.normalized.into()),
        ("special", token.special.into()),
    ])
}

fn of_normalizer(normalizer: &Normalizer) -> Value<'_> {
    let kind = |name: &'static str| map([("type", name.into())]);
    match normalizer {
        Normalizer::Prepend(prefix) => map([("type", "Prepend".into()), ("prepend", prefix.as_str().into())]),
        Normalizer::Replace { pattern, content } => of_replace(pattern, content),
        Normalizer::Precompiled(precompiled) => map([
            ("type", "Precompiled".into()),
            ("precompiled_charsmap", Value::Text(STANDARD.encode(precompiled.charsmap()).into())),
        ]),
        Normalizer::Nfc => kind("NFC"),
        Normalizer::Nfd => kind("NFD"),
        Normalizer::Nfkc => kind("NFKC"),
        Normalizer::Nfkd => kind("NFKD"),
        Normalizer::Nmt => kind("Nmt"),
        Normalizer::Lowercase => kind("Lowercase"),
        Normalizer::StripAccents => kind("StripAccents"),
        &Normalizer::Strip { left, right } => {
            map([("type", "Strip".into()), ("strip_left", left.into()), ("strip_right", right.into())])
        }
        Normalizer::Sequence(steps) => {
            map([("type", "Sequence".into()), ("normalizers", steps.iter().map(of_normalizer).collect())])
        }
    }
}

fn of_pre_tokenizer(pre_tokenizer: &PreTokenizer, spelling: Spelling) -> Value<'_> {
    let of_pre_tokenizer = |step| of_pre_tokenizer(step, spelling);
    match pre_tokenizer {
        PreTokenizer::Metaspace(metaspace) => of_metaspace(metaspace, spelling),
        PreTokenizer::Sequence(steps) => map([
            ("type", "Sequence".into()),
            ("pretokenizers", steps.iter().map(of_pre_tokenizer).collect()),
        ]),
    }
}

fn of_decoder(decoder: &Decoder, spelling: Spelling) -> Value<'_> {
    let of_decoder = |step| of_decoder(step, spelling);
    match decoder {
        Decoder::Replace { pattern, content } => of_replace(pattern, content),
        Decoder::ByteFallback => map([("type", "ByteFallback".into())]),
        Decoder::Fuse => map([("type", "Fuse".into())]),
        Decoder::Strip { content, start, stop } => map([
            ("type", "Strip".into()),
            ("content", Value::Text(content.to_string().into())),
            ("start", (*start).into()),
            ("stop", (*stop).into()),
        ]),
        Decoder::Metaspace(metaspace) => of_metaspace(metaspace, spelling),
        Decoder::Sequence(steps) => {
            map([("type", "Sequence".into()), ("decoders", steps.iter().map(of_decoder).collect())])
        }
    }
}

fn of_post_processor(post_processor: &PostProcessor) -> Value<'_> {
    match post_processor {
        PostProcessor::Template(Template { single, pair, special_tokens }) => map([
            ("type", "TemplateProcessing".into()),
            ("single", single.iter().map(of_template_piece).collect()),
            ("pair", pair.iter().map(of_template_piece).collect()),
            (
                "special_tokens",
                Value::Map(
                    special_tokens.iter().map(|token| (token.id.as_str(), of_special_token(token))).collect(),
                ),
            ),
        ]),
        PostProcessor::Sequence(steps) => {
            map([("type", "Sequence".into()), ("processors", steps.iter().map(of_post_processor).collect())])
        }
    }
}

fn of_template_piece(piece: &TemplatePiece) -> Value<'_> {
    let (name, id, type_id) = match piece {
        TemplatePiece::Sequence { id: TemplateSequence::A, type_id } => ("Sequence", "A", type_id),
        TemplatePiece::Sequence { id: TemplateSequence::B, type_id } => ("Sequence", "B", type_id),
        TemplatePiece::SpecialToken { id, type_id } => ("SpecialToken", id.as_str(), type_id),
    };
    map([(name, map([("id", id.into()), ("type_id", (*type_id).into())]))])
}

fn of_special_token(token: &SpecialToken) -> Value<'_> {
    map([
        ("id", token.id.as_str().into()),
        ("ids", token.ids.iter().map(|&id| id.into()).collect()),
        ("tokens", token.tokens.iter().map(|token| token.as_str().into()).collect()),
    ])
}

fn of_metaspace(metaspace: &Metaspace, spelling: Spelling) -> Value<'static> {
    let scheme = match metaspace.prepend_scheme {
        PrependScheme::Always => "always",
        PrependScheme::First => "first",
        PrependScheme::Never => "never",
    };
    let mut fields = vec![
        ("type", "Metaspace".into()),
        ("replacement", Value::Text(metaspace.replacement.to_string().into())),
    ];
    if spelling == Spelling::Old {
        fields.push(("add_prefix_space", (metaspace.prepend_scheme != PrependScheme::Never).into()));
    }
    fields.extend([("prepend_scheme", scheme.into()), ("split", metaspace.split.into())]);
    Value::Map(fields)
}

fn of_replace<'a>(pattern: &'a Pattern, content: &'a str) -> Value<'a> {
    let pattern = match pattern {
        Pattern::String(text) => map([("String", text.as_str().into())]),
        Pattern::Repeated { source, .. } => map([("Regex", source.as_str().into())]),
    };
    map([("type", "Replace".into()), ("pattern", pattern), ("content", content.into())])
}

fn of_model(model: &BpeModel, spelling: Spelling) -> Value<'_> {
    let text = |text: &'_ Option<String>| text.clone().map_or(Value::Null, |text| Value::Text(text.into()));
    map([
        ("type", "BPE".into()),
        ("dropout", model.dropout.map_or(Value::Null, Value::Float)),
        ("unk_token", text(&model.unk_token)),
        ("continuing_subword_prefix", text(&model.continuing_subword_prefix)),
        ("end_of_word_suffix", text(&model.end_of_word_suffix)),
        ("fuse_unk", model.fuse_unk.into()),
        ("byte_fallback", model.byte_fallback.into()),
        ("ignore_merges", model.ignore_merges.into()),
        ("vocab", Value::Vocab(model)),
        ("merges", Value::Merges(model, spelling)),
    ])
}
