//! How much longer normalizers, post-processors and decoders make a text at most.
//!
//! Sixty steps that double each letter are a small file, and 10¹⁸ bytes for each byte of text. A file with
//! which text may grow beyond any use is refused when it is loaded, so that memory stays within a bound that
//! is known: [`MAX_GROWTH`] times the text.

use std::collections::HashMap;

use super::{
    Decoder, Normalizer, Pattern, PostProcessor, PreTokenizer, Template, TemplatePiece, TemplateSequence,
};
use crate::{AddedToken, Error, Result};

/// How many times as long a text may become, as far as the steps tell one by one. The files in use stay below
/// 400 by this measure, and far below in truth.
pub const MAX_GROWTH: f64 = 65_536.0;
/// How many steps a normalizer, a decoder, a pre-tokenizer or a post-processor may have. The files in use have
/// less than ten.
pub const MAX_STEPS: usize = 64;
/// How many bytes all `Prepend`s of a normalizer may put in front of a text, as far as the steps tell.
pub const MAX_PREFIX: f64 = 1_048_576.0;
/// How many pieces a template may have. The files in use have less than ten.
pub const MAX_TEMPLATE_PIECES: usize = 1024;
/// How many tokens a template may put around one text or two.
pub const MAX_TEMPLATE_TOKENS: usize = 65_536;
/// How many times a post-processor may say the same text.
pub const MAX_REPEATS: usize = 1024;
/// How many bytes the added tokens that are sought in normalized text may become together, as far as the steps
/// tell: all of them are normalized when a file is loaded, with its tokens and its normalizer.
pub const MAX_NORMALIZED_TOKENS: f64 = 1_073_741_824.0;

/// U+FDFA, 3 bytes, becomes 33 in NFKC and NFKD; nothing grows more (Unicode 17).
const COMPATIBILITY: f64 = 11.0;
/// U+0390, 2 bytes, becomes 6 in NFD, and U+1D160, 4 bytes, becomes 12 in NFC; nothing grows more (Unicode 17).
const CANONICAL: f64 = 3.0;
/// U+0130, 2 bytes, becomes 3 in lower case; nothing grows more (Unicode 17).
const LOWERCASE: f64 = 1.5;

/// Refuses a normalizer with which text may grow, or take time, beyond the limits.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with the field `normalizer`.
pub(crate) fn check_normalizer(normalizer: &Normalizer) -> Result<()> {
    let steps = normalizer.steps();
    check("normalizer", steps.len(), steps.iter().map(|step| of_normalizer(step)).product())?;
    let prefix = most_bytes(normalizer, 0);
    if prefix > MAX_PREFIX {
        let message =
            format!("{prefix:.0} bytes may be put in front of each text; at most {MAX_PREFIX} are supported");
        return Err(Error::unsupported("normalizer", message));
    }
    Ok(())
}

/// Refuses added tokens of which `normalizer` may make too much.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with the field `added_tokens`.
pub(crate) fn check_added_tokens<'a>(
    normalizer: &Normalizer,
    tokens: impl IntoIterator<Item = &'a AddedToken>,
) -> Result<()> {
    let sought = tokens.into_iter().filter(|token| token.normalized);
    let bytes: f64 = sought.map(|token| most_bytes(normalizer, token.content.len())).sum();
    if bytes > MAX_NORMALIZED_TOKENS {
        let message = format!(
            "normalized, the added tokens may become {bytes:.0} bytes; at most {MAX_NORMALIZED_TOKENS} are supported"
        );
        return Err(Error::unsupported("added_tokens", message));
    }
    Ok(())
}

/// How long a text of `len` bytes may become, as far as the steps tell.
fn most_bytes(normalizer: &Normalizer, len: usize) -> f64 {
    normalizer.steps().iter().fold(len as f64, |len, step| match step {
        Normalizer::Prepend(text) => len + text.len() as f64,
        step => len * of_normalizer(step),
    })
}

/// Refuses a pre-tokenizer of too many steps.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with the field `pre_tokenizer`.
pub(crate) fn check_pre_tokenizer(pre_tokenizer: &PreTokenizer) -> Result<()> {
    fn steps(pre_tokenizer: &PreTokenizer) -> usize {
        match pre_tokenizer {
            PreTokenizer::Sequence(all) => all.iter().map(steps).sum(),
            PreTokenizer::Metaspace(_) => 1,
        }
    }
    check("pre_tokenizer", steps(pre_tokenizer), 1.0)
}

/// Refuses a post-processor that makes a text much longer.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with the field `post_processor`.
pub(crate) fn check_post_processor(post_processor: &PostProcessor) -> Result<()> {
    let mut templates = Vec::new();
    collect_templates(post_processor, &mut templates);
    check("post_processor", templates.len(), 1.0)?;
    let refuse = |message: String| Err(Error::unsupported("post_processor", message));
    let mut repeats = 1usize;
    for template in templates {
        let mut most = 1;
        for pieces in [&template.single, &template.pair] {
            if pieces.len() > MAX_TEMPLATE_PIECES {
                return refuse(format!(
                    "a template of {} pieces; at most {MAX_TEMPLATE_PIECES} are supported",
                    pieces.len()
                ));
            }
            for text in [TemplateSequence::A, TemplateSequence::B] {
                let is_text = |piece: &&TemplatePiece| matches!(piece, TemplatePiece::Sequence { id, .. } if *id == text);
                most = most.max(pieces.iter().filter(is_text).count());
            }
            let tokens = tokens_of(template, pieces);
            if tokens > MAX_TEMPLATE_TOKENS {
                return refuse(format!(
                    "a template of {tokens} tokens; at most {MAX_TEMPLATE_TOKENS} are supported"
                ));
            }
        }
        repeats = repeats.saturating_mul(most);
        if repeats > MAX_REPEATS {
            return refuse(format!(
                "texts may be said {repeats} times; at most {MAX_REPEATS} times are supported"
            ));
        }
    }
    Ok(())
}

fn collect_templates<'a>(post_processor: &'a PostProcessor, templates: &mut Vec<&'a Template>) {
    match post_processor {
        PostProcessor::Sequence(all) => all.iter().for_each(|one| collect_templates(one, templates)),
        PostProcessor::Template(template) => templates.push(template),
    }
}

/// How many tokens `pieces` add.
fn tokens_of(template: &Template, pieces: &[TemplatePiece]) -> usize {
    // Of two of one name the first counts, and is collected last.
    let lens: HashMap<&str, usize> =
        template.special_tokens.iter().rev().map(|token| (token.id.as_str(), token.ids.len())).collect();
    let count = |piece: &TemplatePiece| match piece {
        TemplatePiece::SpecialToken { id, .. } => lens.get(id.as_str()).copied().unwrap_or(0),
        TemplatePiece::Sequence { .. } => 0,
    };
    pieces.iter().map(count).fold(0, usize::saturating_add)
}

/// The same for a decoder.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with the field `decoder`.
pub(crate) fn check_decoder(decoder: &Decoder) -> Result<()> {
    let (steps, growth) = of_decoder(decoder);
    check("decoder", steps, growth)
}

fn check(field: &str, steps: usize, growth: f64) -> Result<()> {
    if steps > MAX_STEPS {
        return Err(Error::unsupported(field, format!("{steps} steps; at most {MAX_STEPS} are supported")));
    }
    if growth > MAX_GROWTH {
        let message =
            format!("text may become {growth:.0} times as long; at most {MAX_GROWTH} times are supported");
        return Err(Error::unsupported(field, message));
    }
    Ok(())
}

fn of_normalizer(step: &Normalizer) -> f64 {
    match step {
        Normalizer::Replace { pattern, content } => of_replacing(pattern, content),
        Normalizer::Precompiled(precompiled) => (precompiled.longest_replacement() as f64).max(1.0),
        Normalizer::Nfc | Normalizer::Nfd => CANONICAL,
        Normalizer::Nfkc | Normalizer::Nfkd => COMPATIBILITY,
        Normalizer::Lowercase => LOWERCASE,
        // What is put in front comes once a text, and has a limit of its own.
        Normalizer::Prepend(_)
        | Normalizer::Nmt
        | Normalizer::Strip { .. }
        | Normalizer::StripAccents
        | Normalizer::Sequence(_) => 1.0,
    }
}

/// The number of steps, and the growth.
fn of_decoder(decoder: &Decoder) -> (usize, f64) {
    match decoder {
        Decoder::Sequence(steps) => steps
            .iter()
            .map(of_decoder)
            .fold((0, 1.0), |(count, growth), step| (count + step.0, growth * step.1)),
        Decoder::Replace { pattern, content } => (1, of_replacing(pattern, content)),
        // A byte token is longer than U+FFFD, and `▁` than a space.
        Decoder::ByteFallback | Decoder::Fuse | Decoder::Strip { .. } | Decoder::Metaspace(_) => (1, 1.0),
    }
}

fn of_replacing(pattern: &Pattern, content: &str) -> f64 {
    let shortest = match pattern {
        Pattern::String(pattern) => pattern.len(),
        Pattern::Repeated { character, min, .. } => min * character.len_utf8(),
    };
    (content.len() as f64 / shortest.max(1) as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::{Metaspace, PrependScheme, SpecialToken, TemplateSequence};
    use super::*;

    fn replace(pattern: &str, content: &str) -> Normalizer {
        Normalizer::Replace { pattern: Pattern::String(pattern.into()), content: content.into() }
    }

    #[test]
    fn doubling_is_refused_in_time() {
        let doubling = |count| Normalizer::Sequence(vec![replace("a", "aa"); count]);
        assert!(check_normalizer(&doubling(16)).is_ok());
        let error = check_normalizer(&doubling(17)).unwrap_err();
        assert_eq!(error.field(), Some("normalizer"));
        assert!(error.to_string().contains("131072 times"), "{error}");
        assert!(check_normalizer(&replace("ab", &"x".repeat(131_072))).is_ok());
        assert!(check_normalizer(&replace("a", &"x".repeat(131_072))).is_err());
        let pattern = Pattern::from_regex("a{2,}").unwrap();
        let decoder = Decoder::Sequence(vec![Decoder::Replace { pattern, content: "x".repeat(200_000) }]);
        assert_eq!(check_decoder(&decoder).unwrap_err().field(), Some("decoder"));
    }

    #[test]
    fn steps_are_counted() {
        let nested = |count| Normalizer::Sequence(vec![Normalizer::Sequence(vec![Normalizer::Nmt; count])]);
        assert!(check_normalizer(&nested(MAX_STEPS)).is_ok());
        assert!(check_normalizer(&nested(MAX_STEPS + 1)).unwrap_err().to_string().contains("65 steps"));
        let decoder = Decoder::Sequence(vec![Decoder::Fuse; MAX_STEPS + 1]);
        assert!(check_decoder(&decoder).is_err());
    }

    #[test]
    fn what_is_put_in_front_is_limited_with_all_that_it_becomes() {
        let prepend = |len: usize| Normalizer::Prepend("a".repeat(len));
        assert!(check_normalizer(&prepend(1 << 20)).is_ok());
        assert!(check_normalizer(&prepend((1 << 20) + 1)).unwrap_err().to_string().contains("in front"));
        let grown = Normalizer::Sequence(vec![prepend(1 << 10), replace("a", &"b".repeat(1 << 11))]);
        assert_eq!(check_normalizer(&grown).unwrap_err().field(), Some("normalizer"));
        let later = Normalizer::Sequence(vec![replace("a", &"b".repeat(1 << 11)), prepend(1 << 10)]);
        assert!(check_normalizer(&later).is_ok());
    }

    #[test]
    fn added_tokens_are_limited_by_what_they_become() {
        let token = |len: usize, normalized| AddedToken {
            id: 1,
            content: "a".repeat(len),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized,
            special: false,
        };
        let growing = replace("a", &"b".repeat(1 << 16));
        assert!(check_added_tokens(&growing, &[token(1 << 14, true), token(1 << 20, false)]).is_ok());
        let error = check_added_tokens(&growing, &[token(1 << 14, true), token(1, true)]).unwrap_err();
        assert_eq!(error.field(), Some("added_tokens"));
        let prefix = Normalizer::Prepend("b".repeat(1 << 20));
        let tokens = |count| vec![token(0, true); count];
        assert!(check_added_tokens(&prefix, &tokens(1024)).is_ok());
        assert!(check_added_tokens(&prefix, &tokens(1025)).is_err());
    }

    #[test]
    fn templates_are_limited() {
        let token =
            |count| SpecialToken { id: "x".into(), ids: vec![1; count], tokens: vec!["x".into(); count] };
        let special = TemplatePiece::SpecialToken { id: "x".into(), type_id: 0 };
        let text = TemplatePiece::Sequence { id: TemplateSequence::A, type_id: 0 };
        let template = |single: Vec<TemplatePiece>, count| {
            let special_tokens = vec![token(count)];
            PostProcessor::Template(Template { single, pair: Vec::new(), special_tokens })
        };
        let fault = |post_processor: &PostProcessor| {
            let error = check_post_processor(post_processor).unwrap_err();
            assert_eq!(error.field(), Some("post_processor"));
            error.to_string()
        };
        assert!(check_post_processor(&template(vec![special.clone(); 2], 1 << 15)).is_ok());
        assert!(fault(&template(vec![special.clone(); 3], 1 << 15)).contains("98304 tokens"));
        assert!(fault(&template(vec![special; 1025], 1)).contains("1025 pieces"));
        // The two texts of a pair are each said once.
        let other = TemplatePiece::Sequence { id: TemplateSequence::B, type_id: 1 };
        let (single, pair) = (vec![text.clone()], vec![text.clone(), other]);
        let plain = PostProcessor::Template(Template { single, pair, special_tokens: Vec::new() });
        assert!(check_post_processor(&PostProcessor::Sequence(vec![plain; MAX_STEPS])).is_ok());
        let twice = template(vec![text; 2], 1);
        assert!(check_post_processor(&PostProcessor::Sequence(vec![twice.clone(); 10])).is_ok());
        assert!(fault(&PostProcessor::Sequence(vec![twice.clone(); 11])).contains("2048 times"));
        assert!(fault(&PostProcessor::Sequence(vec![template(Vec::new(), 1); 65])).contains("65 steps"));
        let metaspace = Metaspace { replacement: '_', prepend_scheme: PrependScheme::Never, split: true };
        let many = PreTokenizer::Sequence(vec![PreTokenizer::Metaspace(metaspace); 65]);
        assert_eq!(check_pre_tokenizer(&many).unwrap_err().field(), Some("pre_tokenizer"));
    }

    #[test]
    fn no_character_grows_more_than_is_said() {
        for (normalizer, growth) in [
            (Normalizer::Nfc, CANONICAL),
            (Normalizer::Nfd, CANONICAL),
            (Normalizer::Nfkc, COMPATIBILITY),
            (Normalizer::Nfkd, COMPATIBILITY),
            (Normalizer::Lowercase, LOWERCASE),
        ] {
            let grown = |c: &char| {
                let text = c.to_string();
                normalizer.normalize_str(&text).len() as f64 / text.len() as f64
            };
            let most = ('\0'..='\u{2FFFF}').map(|c| grown(&c)).fold(0.0, f64::max);
            assert_eq!(most, growth, "{normalizer:?}");
        }
    }
}
