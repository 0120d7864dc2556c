//! How tokens become text.

use super::{Metaspace, Pattern};

/// A decoder: the section `decoder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoder {
    /// `Replace`: in each token, each match of the pattern becomes the content.
    Replace {
        /// What is searched for.
        pattern: Pattern,
        /// What takes its place.
        content: String,
    },
    /// `ByteFallback`: runs of byte tokens (`<0x0A>`) become characters.
    ByteFallback,
    /// `Fuse`: all tokens become one.
    Fuse,
    /// `Strip`: removes a character from both ends of each token.
    Strip {
        /// The character.
        content: char,
        /// How many are removed at the beginning, at most.
        start: usize,
        /// How many are removed at the end, at most.
        stop: usize,
    },
    /// `Metaspace`.
    Metaspace(Metaspace),
    /// `Sequence`: one after the other.
    Sequence(Vec<Decoder>),
}

impl Decoder {
    /// The text of tokens.
    pub fn decode(&self, tokens: Vec<String>) -> String {
        self.run(tokens).concat()
    }

    fn run(&self, tokens: Vec<String>) -> Vec<String> {
        let each = |change: &dyn Fn(&str) -> String| tokens.iter().map(|token| change(token)).collect();
        match self {
            Self::Replace { pattern, content } => each(&|token| pattern.replace(token, content)),
            Self::ByteFallback => join_bytes(&tokens),
            Self::Fuse => vec![tokens.concat()],
            &Self::Strip { content, start, stop } => each(&|token| strip(token, content, start, stop).into()),
            Self::Metaspace(metaspace) => {
                let decode = |(index, token): (usize, &String)| metaspace.decode(token, index == 0);
                tokens.iter().enumerate().map(decode).collect()
            }
            Self::Sequence(steps) => steps.iter().fold(tokens, |tokens, step| step.run(tokens)),
        }
    }
}

/// `ByteFallback`: a run of byte tokens is one text or, where it is not UTF-8, a U+FFFD for each byte.
fn join_bytes(tokens: &[String]) -> Vec<String> {
    let mut joined = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    let flush = |run: &mut Vec<u8>, joined: &mut Vec<String>| {
        if run.is_empty() {
            return;
        }
        match String::from_utf8(std::mem::take(run)) {
            Ok(text) => joined.push(text),
            Err(error) => joined.resize(joined.len() + error.as_bytes().len(), "\u{FFFD}".into()),
        }
    };
    for token in tokens {
        match byte_of(token) {
            Some(byte) => run.push(byte),
            None => {
                flush(&mut run, &mut joined);
                joined.push(token.clone());
            }
        }
    }
    flush(&mut run, &mut joined);
    joined
}

/// The byte of a byte token: `<0x`, two hexadecimal digits of either case (or a plus and one digit, which
/// is how Rust's `from_str_radix` reads them), `>`.
pub(crate) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// `Strip`: `token` without the first `start` and the last `stop` characters, as far as they are `content`.
fn strip(token: &str, content: char, start: usize, stop: usize) -> &str {
    let mut rest = token;
    for _ in 0..start {
        let Some(stripped) = rest.strip_prefix(content) else { break };
        rest = stripped;
    }
    for _ in 0..stop {
        let Some(stripped) = rest.strip_suffix(content) else { break };
        rest = stripped;
    }
    rest
}
