//! How much longer normalizers and decoders make a text at most.
//!
//! Sixty steps that double each letter are a small file, and 10¹⁸ bytes for each byte of text. A file with
//! which text may grow beyond any use is refused when it is loaded, so that memory stays within a bound that
//! is known: [`MAX_GROWTH`] times the text.

use super::{Decoder, Normalizer, Pattern};
use crate::{Error, Result};

/// How many times as long a text may become, as far as the steps tell one by one. The files in use stay below
/// 400 by this measure, and far below in truth.
pub const MAX_GROWTH: f64 = 65_536.0;
/// How many steps a normalizer or a decoder may have. The files in use have less than ten.
pub const MAX_STEPS: usize = 64;

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
    check("normalizer", steps.len(), steps.iter().map(|step| of_normalizer(step)).product())
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
        // What is put in front comes once a text, and is in the file.
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
