//! All sections but the model.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use super::json::{Json, Node};
use crate::components::{
    Decoder, Metaspace, Normalizer, Padding, PaddingStrategy, Pattern, PostProcessor, PreTokenizer,
    Precompiled, PrependScheme, Side, SpecialToken, Template, TemplatePiece, TemplateSequence, Truncation,
    TruncationStrategy,
};
use crate::load::printable;
use crate::{AddedToken, Error, Result};

/// The section `added_tokens`, as it stands there.
pub(super) fn added_tokens(node: &Node<'_>) -> Result<Vec<AddedToken>> {
    let token = |node: Node<'_>| {
        let flag = |key: &str| node.field(key)?.boolean();
        Ok(AddedToken {
            id: node.field("id")?.u32()?,
            content: node.field("content")?.string()?.into(),
            single_word: flag("single_word")?,
            lstrip: flag("lstrip")?,
            rstrip: flag("rstrip")?,
            normalized: flag("normalized")?,
            special: flag("special")?,
        })
    };
    node.items()?.map(token).collect()
}

pub(super) fn truncation(node: &Node<'_>) -> Result<Truncation> {
    let strategy = node.field("strategy")?;
    Ok(Truncation {
        direction: node.get("direction")?.map_or(Ok(Side::Right), |node| side(&node))?,
        max_length: node.field("max_length")?.usize()?,
        strategy: match strategy.string()? {
            "LongestFirst" => TruncationStrategy::LongestFirst,
            "OnlyFirst" => TruncationStrategy::OnlyFirst,
            "OnlySecond" => TruncationStrategy::OnlySecond,
            other => return Err(unknown(&strategy, other, "LongestFirst, OnlyFirst or OnlySecond")),
        },
        stride: node.field("stride")?.usize()?,
    })
}

pub(super) fn padding(node: &Node<'_>) -> Result<Padding> {
    let strategy = node.field("strategy")?;
    Ok(Padding {
        strategy: match strategy.value {
            Json::Object(_) => PaddingStrategy::Fixed(strategy.field("Fixed")?.usize()?),
            _ => match strategy.string()? {
                "BatchLongest" => PaddingStrategy::BatchLongest,
                other => return Err(unknown(&strategy, other, "BatchLongest or {\"Fixed\": length}")),
            },
        },
        direction: side(&node.field("direction")?)?,
        pad_to_multiple_of: node.optional("pad_to_multiple_of")?.map(|node| node.usize()).transpose()?,
        pad_id: node.field("pad_id")?.u32()?,
        pad_type_id: node.field("pad_type_id")?.u32()?,
        pad_token: node.field("pad_token")?.string()?.into(),
    })
}

fn side(node: &Node<'_>) -> Result<Side> {
    match node.string()? {
        "Left" => Ok(Side::Left),
        "Right" => Ok(Side::Right),
        other => Err(unknown(node, other, "Left or Right")),
    }
}

pub(super) fn normalizer(node: &Node<'_>) -> Result<Normalizer> {
    let kind = node.field("type")?;
    Ok(match kind.string()? {
        "Prepend" => {
            let prefix = node.field("prepend")?;
            if prefix.string()?.is_empty() {
                return Err(Error::unsupported(prefix.path, "an empty text is not supported"));
            }
            Normalizer::Prepend(prefix.string()?.into())
        }
        "Replace" => {
            let (pattern, content) = replace(node)?;
            Normalizer::Replace { pattern, content }
        }
        "Precompiled" => {
            let field = node.field("precompiled_charsmap")?;
            let charsmap = STANDARD
                .decode(field.string()?)
                .map_err(|error| field.fault(format!("this is no base64: {error}")))?;
            Normalizer::Precompiled(Precompiled::new(charsmap, &field.path)?)
        }
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "Nmt" => Normalizer::Nmt,
        "Lowercase" => Normalizer::Lowercase,
        "Strip" => Normalizer::Strip {
            left: node.field("strip_left")?.boolean()?,
            right: node.field("strip_right")?.boolean()?,
        },
        "StripAccents" => Normalizer::StripAccents,
        "Sequence" => Normalizer::Sequence(
            node.field("normalizers")?.items()?.map(|node| normalizer(&node)).collect::<Result<_>>()?,
        ),
        other => return Err(unsupported(&kind, other, "normalizer")),
    })
}

pub(super) fn pre_tokenizer(node: &Node<'_>) -> Result<PreTokenizer> {
    let kind = node.field("type")?;
    Ok(match kind.string()? {
        "Metaspace" => PreTokenizer::Metaspace(metaspace(node)?),
        "Sequence" => PreTokenizer::Sequence(
            node.field("pretokenizers")?.items()?.map(|node| pre_tokenizer(&node)).collect::<Result<_>>()?,
        ),
        other => return Err(unsupported(&kind, other, "pre-tokenizer")),
    })
}

pub(super) fn decoder(node: &Node<'_>) -> Result<Decoder> {
    let kind = node.field("type")?;
    Ok(match kind.string()? {
        "Replace" => {
            let (pattern, content) = replace(node)?;
            Decoder::Replace { pattern, content }
        }
        "ByteFallback" => Decoder::ByteFallback,
        "Fuse" => Decoder::Fuse,
        "Strip" => Decoder::Strip {
            content: node.field("content")?.character()?,
            start: node.field("start")?.usize()?,
            stop: node.field("stop")?.usize()?,
        },
        "Metaspace" => Decoder::Metaspace(metaspace(node)?),
        "Sequence" => Decoder::Sequence(
            node.field("decoders")?.items()?.map(|node| decoder(&node)).collect::<Result<_>>()?,
        ),
        other => return Err(unsupported(&kind, other, "decoder")),
    })
}

pub(super) fn post_processor(node: &Node<'_>) -> Result<PostProcessor> {
    let kind = node.field("type")?;
    Ok(match kind.string()? {
        "TemplateProcessing" => PostProcessor::Template(template(node)?),
        "Sequence" => PostProcessor::Sequence(
            node.field("processors")?.items()?.map(|node| post_processor(&node)).collect::<Result<_>>()?,
        ),
        other => return Err(unsupported(&kind, other, "post-processor")),
    })
}

fn template(node: &Node<'_>) -> Result<Template> {
    let mut special_tokens = Vec::new();
    for (name, node) in node.field("special_tokens")?.entries()? {
        let (ids, tokens) = (node.field("ids")?, node.field("tokens")?);
        let token = SpecialToken {
            id: name.into(),
            ids: ids.items()?.map(|node| node.u32()).collect::<Result<_>>()?,
            tokens: tokens.items()?.map(|node| node.string().map(String::from)).collect::<Result<_>>()?,
        };
        if token.ids.len() != token.tokens.len() {
            return Err(node.fault(format!("{} ids, but {} tokens", token.ids.len(), token.tokens.len())));
        }
        special_tokens.push(token);
    }
    special_tokens.sort_by(|a, b| a.id.cmp(&b.id));
    let pieces = |key: &str| -> Result<Vec<TemplatePiece>> {
        let piece = |node: Node<'_>| {
            let piece = template_piece(&node)?;
            match &piece {
                TemplatePiece::SpecialToken { id, .. }
                    if special_tokens.binary_search_by(|token| token.id.as_str().cmp(id)).is_err() =>
                {
                    Err(node.fault(format!(
                        "{:?} is not among the special tokens of the template",
                        printable(id)
                    )))
                }
                TemplatePiece::Sequence { id: TemplateSequence::B, .. } if key == "single" => {
                    Err(node.fault("the template for one sequence asks for a second one"))
                }
                _ => Ok(piece),
            }
        };
        node.field(key)?.items()?.map(piece).collect()
    };
    Ok(Template { single: pieces("single")?, pair: pieces("pair")?, special_tokens })
}

fn template_piece(node: &Node<'_>) -> Result<TemplatePiece> {
    let type_id = |node: &Node<'_>| {
        let field = node.field("type_id")?;
        match field.u32()? {
            // The columns of type ids are int32.
            id if id > i32::MAX as u32 => Err(field.fault(format!("{id} is more than {}", i32::MAX))),
            id => Ok(id),
        }
    };
    if let Some(node) = node.get("SpecialToken")? {
        return Ok(TemplatePiece::SpecialToken {
            id: node.field("id")?.string()?.into(),
            type_id: type_id(&node)?,
        });
    }
    let node = node.field("Sequence")?;
    let name = node.field("id")?;
    let id = match name.string()? {
        "A" => TemplateSequence::A,
        "B" => TemplateSequence::B,
        other => return Err(unknown(&name, other, "A or B")),
    };
    Ok(TemplatePiece::Sequence { id, type_id: type_id(&node)? })
}

/// Reads `Metaspace` in its present form, and in the old one with `add_prefix_space` (and `str_rep`, which
/// says nothing).
fn metaspace(node: &Node<'_>) -> Result<Metaspace> {
    let scheme = match node.get("prepend_scheme")? {
        None => None,
        Some(node) => Some(match node.string()? {
            "always" => PrependScheme::Always,
            "first" => PrependScheme::First,
            "never" => PrependScheme::Never,
            other => return Err(unknown(&node, other, "always, first or never")),
        }),
    };
    let mut prepend_scheme = scheme.unwrap_or(PrependScheme::Always);
    if let Some(node) = node.optional("add_prefix_space")? {
        if !node.boolean()? {
            if prepend_scheme != PrependScheme::Never && scheme.is_some() {
                return Err(node.fault("this contradicts `prepend_scheme`"));
            }
            prepend_scheme = PrependScheme::Never;
        }
    }
    Ok(Metaspace {
        replacement: node.field("replacement")?.character()?,
        prepend_scheme,
        split: node.optional("split")?.map_or(Ok(true), |node| node.boolean())?,
    })
}

fn replace(node: &Node<'_>) -> Result<(Pattern, String)> {
    let pattern = node.field("pattern")?;
    let content = node.field("content")?.string()?.to_owned();
    if let Some(regex) = pattern.get("Regex")? {
        let source = regex.string()?;
        let pattern = Pattern::from_regex(source).ok_or_else(|| {
            let message = "the regular expression is not supported; only one character with `+` or `{n,}` is";
            Error::unsupported(regex.path.clone(), format!("{:?}: {message}", printable(source)))
        })?;
        return Ok((pattern, content));
    }
    let text = pattern.field("String")?;
    if text.string()?.is_empty() {
        return Err(Error::unsupported(text.path, "an empty pattern is not supported"));
    }
    Ok((Pattern::String(text.string()?.into()), content))
}

/// The error for a component that is not supported.
fn unsupported(node: &Node<'_>, name: &str, part: &str) -> Error {
    let name = printable(name);
    Error::unsupported(node.path.clone(), format!("the {part} `{name}` is not supported"))
}

/// The error for a value that is none of a few.
fn unknown(node: &Node<'_>, value: &str, known: &str) -> Error {
    node.fault(format!("{:?} should be {known}", printable(value)))
}
