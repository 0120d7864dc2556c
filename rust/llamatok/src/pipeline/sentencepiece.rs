//! Text to ids by the rules of transformers' SentencePiece-backed class (`LlamaTokenizer.tokenize`,
//! transformers 4.57.6).
//!
//! Every odd consequence of its order of steps is kept: the text gets its prefix before it is split at
//! added tokens, so that an added token at the very start leaves a lone `▁`, which is taken away again
//! only before a special token.

use std::ops::Range;

use super::columns::Columns;
use super::spans::{Aligned, Units};
use crate::added_tokens::python::{Part, Splitter};
use crate::bpe::engine::Worker;
use crate::bpe::Set;
use crate::random::Random;
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::{Result, Tokenizer};

/// The settings of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowSettings {
    /// Whether each chunk of text gets the model's dummy prefix.
    pub legacy: bool,
    /// Whether the text gets a prefix (where not `legacy`), and a space is taken away again by decoding.
    pub add_prefix_space: bool,
}

/// One call's encoder.
pub(super) struct Encoder<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) settings: SlowSettings,
    /// `None` where no added token is to be matched.
    pub(super) splitter: Option<&'a Splitter>,
    pub(super) special_ids: &'a Set<TokenId>,
    pub(super) units: Option<&'a Units>,
}

/// Chances to leave merges out.
pub(super) type Dropout<'a> = Option<(f64, &'a mut Random)>;

/// What stands in front of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// The model's dummy prefix, where it has one.
    Dummy,
    /// Nothing.
    Nothing,
    /// One `▁`.
    Space,
}

impl Encoder<'_> {
    /// Appends the tokens of one text; `word` is its number where texts are split into words.
    pub(super) fn encode(
        &self,
        worker: &mut Worker,
        text: &str,
        word: Option<i32>,
        mut dropout: Dropout<'_>,
        out: &mut Columns,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let start = out.len();
        let mut place = Place { bytes: 0, chars: 0, words: 0, word };
        if self.settings.legacy {
            return self.split(worker, text, [Front::Dummy; 2], &mut place, &mut dropout, out);
        }
        let prefix = self.settings.add_prefix_space;
        let rewrite = self.splitter.is_some_and(|splitter| {
            splitter.heeds_prefix()
                || memchr::memmem::find(text.as_bytes(), SPACE_SYMBOL.as_bytes()).is_some()
        });
        if rewrite {
            // The tokens are to see what the class would show them.
            let mut prepared = String::with_capacity(text.len() + SPACE_SYMBOL.len());
            if prefix {
                prepared.push_str(SPACE_SYMBOL);
            }
            prepared.push_str(&text.replace(SPACE_SYMBOL, " "));
            self.split(worker, &prepared, [Front::Nothing; 2], &mut place, &mut dropout, out)?;
            if let (Some(details), true) = (&mut out.details, prefix) {
                drop_prefix(&mut details.spans[start..]);
            }
        } else {
            let first = if prefix { Front::Space } else { Front::Nothing };
            self.split(worker, text, [first, Front::Nothing], &mut place, &mut dropout, out)?;
        }
        // A special token behind a lone prefix takes it away.
        let space = self.tokenizer.model().vocabulary.mergeable_id(SPACE_SYMBOL);
        if let [first, second, ..] = out.ids[start..] {
            if Some(first) == space && self.special_ids.contains(&second) {
                out.remove(start);
            }
        }
        Ok(())
    }

    /// Splits `text` at added tokens and encodes what is between them; `fronts` tells what stands in front
    /// of the first chunk and of the others.
    fn split(
        &self,
        worker: &mut Worker,
        text: &str,
        fronts: [Front; 2],
        place: &mut Place,
        dropout: &mut Dropout<'_>,
        out: &mut Columns,
    ) -> Result<()> {
        let [mut front, later] = fronts;
        let Some(splitter) = self.splitter else {
            return self.chunk(worker, text, &whole(0..text.len()), front, place, dropout, out);
        };
        splitter.split(text, |part| match part {
            Part::Text(ranges) => {
                let front = std::mem::replace(&mut front, later);
                self.chunk(worker, text, &ranges, front, place, dropout, out)
            }
            Part::Token(id, range) => {
                if std::mem::replace(&mut front, later) == Front::Space {
                    // The prefix is a chunk of its own.
                    self.chunk(worker, text, &whole(0..0), Front::Space, place, dropout, out)?;
                }
                out.ids.push(id);
                if let Some(details) = &mut out.details {
                    let span = [place.char_at(text, range.start), place.char_at(text, range.end)];
                    details.spans.push(span);
                    details.words.push(place.next_word());
                }
                Ok(())
            }
        })
    }

    /// Encodes a chunk of `text`.
    #[allow(clippy::too_many_arguments)]
    fn chunk(
        &self,
        worker: &mut Worker,
        text: &str,
        ranges: &[Range<usize>],
        front: Front,
        place: &mut Place,
        dropout: &mut Dropout<'_>,
        out: &mut Columns,
    ) -> Result<()> {
        let joined: String;
        let chunk = match ranges {
            [range] => &text[range.clone()],
            ranges => {
                joined = ranges.iter().map(|range| &text[range.clone()]).collect();
                &joined
            }
        };
        let start = out.len();
        self.merge(worker, chunk, front, dropout, &mut out.ids)?;
        if let (Some(details), Some(units)) = (&mut out.details, self.units) {
            let dummy = self.tokenizer.model().normalizer.add_dummy_prefix;
            let prefix = front == Front::Space || (front == Front::Dummy && dummy);
            let word = place.next_word();
            let engine = self.tokenizer.engine();
            let model = self.tokenizer.model();
            let is_plain = engine.normalizer().is_identity()
                && model.vocabulary.byte_ids().is_some()
                && model.vocabulary.mergeable_id(SPACE_SYMBOL).is_some();
            if let ([range], true) = (ranges, is_plain) {
                let first = place.char_at(text, range.start);
                units.push_plain_spans(&out.ids[start..], chunk, first, prefix, &mut details.spans);
                details.words.resize(details.spans.len(), word);
                return Ok(());
            }
            let mut chars = Vec::with_capacity(chunk.len());
            for range in ranges {
                let first = place.char_at(text, range.start);
                chars.extend((first..).zip(text[range.clone()].chars()));
            }
            let aligned = Aligned::new(
                self.tokenizer.engine().normalizer(),
                chunk,
                &chars,
                front == Front::Dummy,
                prefix,
            );
            units.push_spans(&out.ids[start..], &aligned, details);
            details.words.resize(details.spans.len(), word);
        }
        Ok(())
    }

    /// Appends the ids of a chunk.
    fn merge(
        &self,
        worker: &mut Worker,
        chunk: &str,
        front: Front,
        dropout: &mut Dropout<'_>,
        ids: &mut Vec<TokenId>,
    ) -> Result<()> {
        let engine = self.tokenizer.engine();
        let dummy = front == Front::Dummy;
        if let Some((probability, random)) = dropout {
            let dropout = (*probability, &mut **random);
            if front == Front::Space {
                let text = [SPACE_SYMBOL, chunk].concat();
                return engine.sample(worker, text.as_bytes(), false, dropout, ids);
            }
            return engine.sample(worker, chunk.as_bytes(), dummy, dropout, ids);
        }
        if dummy {
            return engine.encode(worker, chunk.as_bytes(), ids);
        }
        if engine.serves_plain() {
            return engine.encode_plain(worker, chunk, front == Front::Space, ids);
        }
        let text = if front == Front::Space { [SPACE_SYMBOL, chunk].concat() } else { chunk.to_owned() };
        if !text.starts_with([' ', '▁']) {
            return engine.encode_with_prefix(worker, text.as_bytes(), false, ids);
        }
        // What the class does, so that the normalizer does not strip the space: it encodes with the
        // unknown token in front, and takes away as many tokens as that one has.
        let vocabulary = &self.tokenizer.model().vocabulary;
        let unknown = vocabulary.get(vocabulary.unk_id()).map_or("<unk>", |piece| &piece.text);
        let mut guarded = Vec::new();
        engine.encode_with_prefix(worker, unknown.as_bytes(), false, &mut guarded)?;
        let len = guarded.len();
        guarded.clear();
        engine.encode_with_prefix(worker, [unknown, &text].concat().as_bytes(), false, &mut guarded)?;
        ids.extend_from_slice(guarded.get(len..).unwrap_or(&guarded));
        Ok(())
    }
}

/// How far a text has been read.
struct Place {
    bytes: usize,
    chars: i32,
    words: i32,
    word: Option<i32>,
}

impl Place {
    /// The number of characters before `index`, which mostly is further on than the last one.
    fn char_at(&mut self, text: &str, index: usize) -> i32 {
        if index < self.bytes {
            (self.bytes, self.chars) = (0, 0);
        }
        self.chars += text[self.bytes..index].chars().count() as i32;
        self.bytes = index;
        self.chars
    }

    fn next_word(&mut self) -> i32 {
        self.words += 1;
        self.word.unwrap_or(self.words - 1)
    }
}

fn whole(range: Range<usize>) -> [Range<usize>; 1] {
    [range]
}

/// Ranges in a text with a prefix of one character become those in the text without it, which is not
/// empty: the prefix has the range of the first character.
fn drop_prefix(spans: &mut [[i32; 2]]) {
    for [start, end] in spans {
        *start = (*start - 1).max(0);
        *end = (*end - 1).max(1.min(*end));
    }
}
