//! Ids to text by the decoder that a `tokenizer.json` states.
//!
//! The decoder of Llama's files (`▁` to spaces, runs of byte tokens to characters, all joined, and perhaps
//! one space taken off the beginning) is run from a table, one entry an id; another one step by step.

use super::decode::DecodeOptions;
use super::Pipeline;
use crate::components::{byte_of, Decoder, Pattern};
use crate::stop;
use crate::vocabulary::{TokenId, SPACE_SYMBOL};

/// A decoder, ready to run.
#[derive(Debug)]
pub(super) enum JsonDecoder {
    Table {
        entries: Vec<Entry>,
        texts: String,
        /// Whether one space is taken off the beginning.
        strips: bool,
    },
    Steps(Option<Decoder>),
}

/// What an id gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    start: u32,
    len: u32,
    kind: Kind,
    is_special: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// There is no token.
    None,
    Text,
    Byte(u8),
}

impl JsonDecoder {
    pub(super) fn new(pipeline: &Pipeline) -> Self {
        let decoder = pipeline.json().and_then(|json| json.decoder.as_ref());
        let limit = pipeline.id_limit();
        let Some(strips) = decoder.and_then(is_llamas).filter(|_| limit <= MAX_ENTRIES) else {
            return Self::Steps(decoder.cloned());
        };
        let mut texts = String::new();
        let entries = (0..limit as TokenId).map(|id| {
            let start = texts.len() as u32;
            let Some(token) = pipeline.id_to_token(id) else {
                return Entry { start, len: 0, kind: Kind::None, is_special: false };
            };
            let token = token.replace(SPACE_SYMBOL, " ");
            let kind = byte_of(&token).map_or(Kind::Text, Kind::Byte);
            texts.push_str(&token);
            Entry { start, len: token.len() as u32, kind, is_special: is_left_out(pipeline, id) }
        });
        Self::Table { entries: entries.collect(), texts, strips }
    }

    /// Appends the text of ids to `out`; ids that there are not are left out.
    pub(super) fn decode(
        &self,
        pipeline: &Pipeline,
        ids: &[TokenId],
        options: &DecodeOptions,
        out: &mut Vec<u8>,
    ) {
        let skip = options.skip_special_tokens;
        match self {
            Self::Table { .. } => self.append(ids, skip, true, out),
            Self::Steps(decoder) => {
                let ids = ids.iter().filter(|&&id| !(skip && is_left_out(pipeline, id)));
                let tokens = ids.filter_map(|&id| pipeline.id_to_token(id)).map(str::to_owned).collect();
                out.extend_from_slice(decode_tokens(decoder.as_ref(), tokens).as_bytes());
            }
        }
    }

    /// As [`decode`](Self::decode), but byte tokens give their bytes as they are; only where there is a table.
    pub(super) fn decode_bytes(&self, ids: &[TokenId], skip: bool, out: &mut Vec<u8>) {
        self.append(ids, skip, false, out);
    }

    /// Whether there is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }

    /// Whether one space is taken off the beginning, where there is a table.
    pub(super) fn strips(&self) -> bool {
        matches!(self, Self::Table { strips: true, .. })
    }

    /// What an id gives by the table; `None` where that is nothing.
    pub(super) fn unit(&self, id: TokenId, skip_special: bool) -> Option<Unit<'_>> {
        let Self::Table { entries, texts, .. } = self else { return None };
        let entry = entries.get(id as usize)?;
        match entry.kind {
            _ if skip_special && entry.is_special => None,
            Kind::None => None,
            Kind::Byte(byte) => Some(Unit::Byte(byte)),
            Kind::Text => Some(Unit::Text(&texts[entry.start as usize..][..entry.len as usize])),
        }
    }

    fn append(&self, ids: &[TokenId], skip_special: bool, as_text: bool, out: &mut Vec<u8>) {
        let Self::Table { entries, texts, strips } = self else { return };
        let texts = texts.as_bytes();
        let start = out.len();
        // Where the run of byte tokens that is under way begins.
        let mut run = None;
        for (index, &id) in ids.iter().enumerate() {
            if stop::is_due(index, stop::IDS) {
                break;
            }
            let Some(entry) = entries.get(id as usize) else { continue };
            if entry.kind == Kind::None || (skip_special && entry.is_special) {
                continue;
            }
            if let Kind::Byte(byte) = entry.kind {
                run.get_or_insert(out.len());
                out.push(byte);
                continue;
            }
            if let Some(run) = run.take() {
                end_run(run, as_text, out);
            }
            out.extend_from_slice(&texts[entry.start as usize..][..entry.len as usize]);
        }
        if let Some(run) = run {
            end_run(run, as_text, out);
        }
        if *strips && out.get(start) == Some(&b' ') {
            out.remove(start);
        }
    }
}

/// What an id gives by the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit<'a> {
    Text(&'a str),
    Byte(u8),
}

/// The most ids that a table is made for.
const MAX_ENTRIES: usize = crate::vocabulary::MAX_PIECES;

/// Whether the id is left out with special tokens. The library asks for the token, not for the id.
fn is_left_out(pipeline: &Pipeline, id: TokenId) -> bool {
    let token = pipeline.id_to_token(id).and_then(|token| pipeline.added.by_content(token));
    token.is_some_and(|token| token.special)
}

/// If the decoder is that of Llama's files: whether it takes a space off the beginning.
fn is_llamas(decoder: &Decoder) -> Option<bool> {
    let Decoder::Sequence(steps) = decoder else { return None };
    let [Decoder::Replace { pattern: Pattern::String(pattern), content }, Decoder::ByteFallback, Decoder::Fuse, rest @ ..] =
        &steps[..]
    else {
        return None;
    };
    if pattern != SPACE_SYMBOL || content != " " {
        return None;
    }
    match rest {
        [] => Some(false),
        [Decoder::Strip { content: ' ', start: 1, stop: 0 }] => Some(true),
        _ => None,
    }
}

/// Ends a run of bytes: where it is not UTF-8, each byte becomes U+FFFD, if a text is wanted.
pub(super) fn end_run(start: usize, as_text: bool, out: &mut Vec<u8>) {
    if as_text && std::str::from_utf8(&out[start..]).is_err() {
        let len = out.len() - start;
        out.truncate(start);
        out.extend_from_slice("\u{FFFD}".repeat(len).as_bytes());
    }
}

/// The text of tokens; without a decoder they are joined by spaces.
pub(super) fn decode_tokens(decoder: Option<&Decoder>, tokens: Vec<String>) -> String {
    match decoder {
        Some(decoder) => decoder.decode(tokens),
        None => tokens.join(" "),
    }
}
