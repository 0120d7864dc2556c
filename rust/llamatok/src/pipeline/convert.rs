//! A SentencePiece model as a `tokenizer.json`, as transformers 4.57.6 converts one (`LlamaConverter`
//! and `SentencePieceExtractor`), and templates in both forms.

use std::cmp::Ordering;

use super::sentencepiece::SlowSettings;
use crate::added_tokens::AddedToken;
use crate::components::{
    BpeModel, Decoder, Metaspace, Normalizer, Pattern, PostProcessor, PreTokenizer, PrependScheme,
    SpecialToken, Template, TemplatePiece, TemplateSequence, TokenizerJson,
};
use crate::post_process::{TemplateItem, Templates};
use crate::vocabulary::{PieceKind, TokenId, Vocabulary, SPACE_SYMBOL};
use crate::{Error, Model, Result};

/// Converts a model.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a model with a normalizer of its own, which
/// transformers drops.
pub(super) fn to_tokenizer_json(
    model: &Model,
    settings: SlowSettings,
    added: &[AddedToken],
    templates: &Templates,
) -> Result<TokenizerJson> {
    let normalizer = &model.normalizer;
    let is_identity = normalizer.precompiled_charsmap.is_empty()
        && !normalizer.remove_extra_whitespaces
        && !normalizer.treat_whitespace_as_suffix
        && normalizer.escape_whitespaces;
    if !is_identity {
        return Err(Error::unsupported(
            "normalizer_spec",
            "the model normalizes text by rules that a tokenizer.json of the Llama kind does not have",
        ));
    }
    let replace = |pattern: &str, content: &str| (Pattern::String(pattern.into()), content.to_owned());
    let (pattern, content) = replace(" ", SPACE_SYMBOL);
    let to_symbol = Normalizer::Replace { pattern, content };
    let prepend = settings.add_prefix_space.then(|| Normalizer::Prepend(SPACE_SYMBOL.into()));
    let prepend_scheme = if settings.add_prefix_space { PrependScheme::First } else { PrependScheme::Never };
    let (normalizer, pre_tokenizer) = if settings.legacy {
        (Some(Normalizer::Sequence(prepend.into_iter().chain([to_symbol]).collect())), None)
    } else {
        let metaspace = Metaspace { replacement: '▁', prepend_scheme, split: false };
        (None, Some(PreTokenizer::Metaspace(metaspace)))
    };
    let (pattern, content) = replace(SPACE_SYMBOL, " ");
    let mut decoders = vec![Decoder::Replace { pattern, content }, Decoder::ByteFallback, Decoder::Fuse];
    if settings.add_prefix_space {
        decoders.push(Decoder::Strip { content: ' ', start: 1, stop: 0 });
    }
    Ok(TokenizerJson {
        truncation: None,
        padding: None,
        added_tokens: added_tokens(&model.vocabulary, added),
        normalizer,
        pre_tokenizer,
        post_processor: post_processor(templates),
        decoder: Some(Decoder::Sequence(decoders)),
        model: bpe_model(&model.vocabulary)?,
    })
}

/// The added tokens and, where they are not among them, the control pieces and user-defined symbols.
fn added_tokens(vocabulary: &Vocabulary, added: &[AddedToken]) -> Vec<AddedToken> {
    let mut tokens = added.to_vec();
    for (id, piece) in (0..).zip(vocabulary.pieces()) {
        let special = match piece.kind {
            PieceKind::Control => true,
            PieceKind::UserDefined => false,
            _ => continue,
        };
        if added.iter().all(|token| token.id != id) {
            tokens.push(AddedToken {
                id,
                content: piece.text.clone(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: false,
                special,
            });
        }
    }
    tokens.sort_by_key(|token| token.id);
    tokens
}

/// All ways to split a piece in two pieces, by score, then by the lengths of the two, all descending.
fn bpe_model(vocabulary: &Vocabulary) -> Result<BpeModel> {
    let vocab: Vec<(&str, TokenId)> =
        vocabulary.pieces().iter().map(|piece| piece.text.as_str()).zip(0..).collect();
    let mut model = BpeModel::new(vocab)?;
    let mut merges = Vec::with_capacity(vocabulary.len() * 4);
    for (product, piece) in (0..).zip(vocabulary.pieces()) {
        let first = merges.len();
        let len = piece.text.chars().count();
        // transformers gives the first three pieces the score 0.
        let score = if product < 3 { 0.0 } else { piece.score };
        for (left_len, (index, _)) in piece.text.char_indices().enumerate().skip(1) {
            let (left, right) = piece.text.split_at(index);
            if let (Some(left), Some(right)) = (vocabulary.piece_to_id(left), vocabulary.piece_to_id(right)) {
                merges.push((score, left_len, len - left_len, (left, right, product)));
            }
        }
        merges[first..].sort_unstable_by_key(|merge| merge.3);
    }
    merges.sort_by(|a, b| {
        b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then_with(|| (b.1, b.2).cmp(&(a.1, a.2)))
    });
    model.merges = merges.into_iter().map(|merge| merge.3).collect();
    model.unk_token = vocabulary.get(vocabulary.unk_id()).map(|piece| piece.text.clone());
    model.fuse_unk = true;
    model.byte_fallback = true;
    Ok(model)
}

/// Templates as a post-processor; `None` where they add nothing.
pub(super) fn post_processor(templates: &Templates) -> Option<PostProcessor> {
    if *templates == Templates::default() {
        return None;
    }
    let mut special_tokens: Vec<SpecialToken> = Vec::new();
    let mut pieces = |items: &[TemplateItem]| {
        let mut pieces = Vec::with_capacity(items.len());
        for item in items {
            pieces.push(match item {
                TemplateItem::Sequence { sequence, type_id } => TemplatePiece::Sequence {
                    id: if *sequence == 0 { TemplateSequence::A } else { TemplateSequence::B },
                    type_id: *type_id,
                },
                TemplateItem::Token { token, id, type_id } => {
                    if special_tokens.iter().all(|known| known.id != *token) {
                        special_tokens.push(SpecialToken {
                            id: token.clone(),
                            ids: vec![*id],
                            tokens: vec![token.clone()],
                        });
                    }
                    TemplatePiece::SpecialToken { id: token.clone(), type_id: *type_id }
                }
            });
        }
        pieces
    };
    let (single, pair) = (pieces(templates.single()), pieces(templates.pair()));
    special_tokens.sort_by(|a, b| a.id.cmp(&b.id));
    Some(PostProcessor::Template(Template { single, pair, special_tokens }))
}

/// The templates of a post-processor.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there are several, or where one does not
/// hold each text once.
pub(super) fn templates(post_processor: Option<&PostProcessor>) -> Result<Templates> {
    let found = post_processor.map(all_templates).unwrap_or_default();
    let template = match found[..] {
        [] => return Ok(Templates::default()),
        [template] => template,
        _ => {
            return Err(Error::unsupported(
                "post_processor",
                "a sequence of several TemplateProcessing: only one is supported",
            ));
        }
    };
    let items = |pieces: &[TemplatePiece]| {
        let mut items = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                TemplatePiece::Sequence { id, type_id } => items.push(TemplateItem::Sequence {
                    sequence: u8::from(*id == TemplateSequence::B),
                    type_id: *type_id,
                }),
                TemplatePiece::SpecialToken { id, type_id } => {
                    let special = template.special_tokens.iter().find(|special| special.id == *id);
                    let special = special.ok_or_else(|| {
                        Error::model_format("post_processor.special_tokens", format!("{id:?} is missing"))
                    })?;
                    items.extend(special.ids.iter().zip(&special.tokens).map(|(&id, token)| {
                        TemplateItem::Token { token: token.clone(), id, type_id: *type_id }
                    }));
                }
            }
        }
        Ok::<_, Error>(items)
    };
    Templates::new(items(&template.single)?, items(&template.pair)?)
}

fn all_templates(post_processor: &PostProcessor) -> Vec<&Template> {
    match post_processor {
        PostProcessor::Template(template) => vec![template],
        PostProcessor::Sequence(steps) => steps.iter().flat_map(all_templates).collect(),
    }
}
