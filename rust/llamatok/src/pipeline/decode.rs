//! Ids and tokens to text.

use super::json_decode::{self, JsonDecoder};
use super::sentencepiece::SlowSettings;
use super::{Pipeline, Rules};
use crate::batch::{self, run, share_out_by, TextBatch};
use crate::decode::{room, DecodeTable, Position};
use crate::stop;
use crate::vocabulary::{TokenId, SPACE_SYMBOL};
use crate::{Error, Result, Tokenizer};

/// How ids become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Whether special tokens are left out.
    pub skip_special_tokens: bool,
    /// Whether spaces are put between added tokens and what is around them, by the rules of the
    /// SentencePiece-backed class.
    pub spaces_between_special_tokens: bool,
    /// Whether the spaces before English punctuation and short forms are taken away.
    pub clean_up_tokenization_spaces: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            skip_special_tokens: false,
            spaces_between_special_tokens: true,
            clean_up_tokenization_spaces: false,
        }
    }
}

/// What is known of each id: bits of [`SPECIAL`] and [`SEPARATE`].
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<u8>);

/// One of `all_special_tokens`.
const SPECIAL: u8 = 1;
/// Decoded by itself: an added token that is not special, or an additional special token that is new.
const SEPARATE: u8 = 2;

impl Flags {
    fn get(&self, id: TokenId) -> u8 {
        self.0.get(id as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, id: TokenId, flag: u8) {
        // No table is made that is out of proportion; ids this large are no token's.
        if id as usize >= crate::vocabulary::MAX_PIECES * 2 {
            return;
        }
        if self.0.len() <= id as usize {
            self.0.resize(id as usize + 1, 0);
        }
        self.0[id as usize] |= flag;
    }
}

impl Pipeline {
    fn flags(&self) -> &Flags {
        self.flags.get_or_init(|| {
            let mut flags = Flags::default();
            for &id in self.special_ids.iter() {
                flags.set(id, SPECIAL);
            }
            for id in self.added.ids().filter(|id| !self.special_ids.contains(id)) {
                flags.set(id, SEPARATE);
            }
            for &id in self.additional_special_ids.iter().filter(|&&id| id as usize >= self.base_vocab_size())
            {
                flags.set(id, SEPARATE);
            }
            flags
        })
    }

    /// The text of ids, appended to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange), by the rules of the SentencePiece-backed
    /// class; by those of the tokenizers library such ids are left out.
    pub fn decode(&self, ids: &[TokenId], options: &DecodeOptions, out: &mut String) -> Result<()> {
        let mut bytes = std::mem::take(out).into_bytes();
        let start = bytes.len();
        bytes.reserve(room(ids.len()));
        let result = match &self.rules {
            Rules::SentencePiece { tokenizer, settings, .. } => {
                self.decode_slow(tokenizer, *settings, ids, options, &mut bytes)
            }
            Rules::TokenizerJson { decoder, .. } => {
                decoder.get_or_init(|| JsonDecoder::new(self)).decode(self, ids, options, &mut bytes);
                Ok(())
            }
        };
        *out = into_string(bytes);
        if options.clean_up_tokenization_spaces && result.is_ok() {
            let cleaned = clean_up(&out[start..]);
            out.truncate(start);
            out.push_str(&cleaned);
        }
        result
    }

    /// The texts of several lists of ids: `ids[offsets[i]..offsets[i + 1]]` is list `i`.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), with the index within `ids`.
    ///
    /// # Panics
    /// Where `offsets` is empty, falls, or leaves `ids`.
    pub fn decode_batch(
        &self,
        ids: &[TokenId],
        offsets: &[i64],
        options: &DecodeOptions,
        num_threads: Option<usize>,
    ) -> Result<TextBatch> {
        let lists: Vec<&[TokenId]> =
            offsets.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize]).collect();
        let tasks = share_out_by(lists.len(), num_threads, |index| lists[index].len() * 4);
        let parts = run(&tasks, num_threads, |task| {
            let mut text = into_string(batch::with_capacity(
                lists[task.clone()].iter().map(|list| list.len() * 5).sum(),
            ));
            let mut ends = Vec::with_capacity(task.len() + 1);
            for index in task.clone() {
                if stop::is_due(index, stop::ROUNDS) {
                    break;
                }
                self.decode(lists[index], options, &mut text)
                    .map_err(|error| error.shift_index(offsets[index] as usize))?;
                ends.push(text.len() as i64);
            }
            Ok(TextBatch { bytes: text.into_bytes(), offsets: ends })
        })?;
        Ok(TextBatch::concat(parts, num_threads))
    }

    /// The text of tokens (`convert_tokens_to_string`).
    ///
    /// # Errors
    /// None that a sound tokenizer can give.
    pub fn tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        match &self.rules {
            Rules::SentencePiece { tokenizer, settings, .. } => {
                let mut bytes = Vec::new();
                let mut group = Group::new(self, tokenizer, *settings);
                for (index, token) in tokens.iter().enumerate() {
                    let item = if index == 0 { group.first(token) } else { self.item(tokenizer, token) };
                    group.push(item, &mut bytes)?;
                }
                group.finish(&mut bytes)?;
                Ok(into_string(bytes))
            }
            Rules::TokenizerJson { rules, .. } => {
                let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
                Ok(json_decode::decode_tokens(rules.file().decoder.as_ref(), tokens))
            }
        }
    }

    /// What a token is to the conversion of a group.
    fn item<'a>(&'a self, tokenizer: &Tokenizer, token: &'a str) -> Item<'a> {
        if self.token_to_id(token).is_some_and(|id| self.special_ids.contains(&id)) {
            return Item::Special(token);
        }
        match tokenizer.model().vocabulary.piece_to_id(token) {
            Some(id) => Item::Piece(id),
            None => Item::Verbatim(token),
        }
    }

    /// `PreTrainedTokenizer._decode` (transformers 4.57.6).
    fn decode_slow(
        &self,
        tokenizer: &Tokenizer,
        settings: SlowSettings,
        ids: &[TokenId],
        options: &DecodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let flags = self.flags();
        let base = self.base_vocab_size();
        let mut group = Group::new(self, tokenizer, settings);
        let mut is_open = false;
        let mut parts = 0;
        let between = |parts: &mut usize, out: &mut Vec<u8>| {
            if *parts > 0 && options.spaces_between_special_tokens {
                out.push(b' ');
            }
            *parts += 1;
        };
        for (index, &id) in ids.iter().enumerate() {
            if stop::is_due(index, stop::IDS) {
                break;
            }
            let flag = flags.get(id);
            if flag == 0 && (id as usize) < base {
                // Nearly all are of this kind.
                if is_open {
                    group.push(Item::Piece(id), out)?;
                    continue;
                }
            }
            let Some(token) = self.id_to_token(id) else {
                return Err(Error::id_out_of_range(id.into(), index, self.vocab_size()));
            };
            if options.skip_special_tokens && flag & SPECIAL != 0 {
                continue;
            }
            if flag & SEPARATE != 0 {
                if std::mem::take(&mut is_open) {
                    group.finish(out)?;
                    if out.len() == group.start {
                        // Such an empty text does not count.
                        out.truncate(group.before);
                        parts -= 1;
                    }
                }
                between(&mut parts, out);
                out.extend_from_slice(token.as_bytes());
                continue;
            }
            if !std::mem::replace(&mut is_open, true) {
                group = Group::new(self, tokenizer, settings);
                group.before = out.len();
                between(&mut parts, out);
                group.start = out.len();
                group.segment = group.start;
                let first = group.first(token);
                group.push(first, out)?;
            } else if flag & SPECIAL != 0 {
                group.push(Item::Special(token), out)?;
            } else {
                group.push(Item::Piece(id), out)?;
            }
        }
        if is_open {
            group.finish(out)?;
        }
        Ok(())
    }
}

/// A token of a group.
#[derive(Debug, Clone, Copy)]
enum Item<'a> {
    /// One of `all_special_tokens`.
    Special(&'a str),
    /// A piece of the model.
    Piece(TokenId),
    /// No piece: given as it is.
    Verbatim(&'a str),
}

/// `LlamaTokenizer.convert_tokens_to_string` (transformers 4.57.6) under way.
struct Group<'a> {
    pipeline: &'a Pipeline,
    tokenizer: &'a Tokenizer,
    table: &'a DecodeTable,
    settings: SlowSettings,
    position: Position,
    pending: Vec<TokenId>,
    count: usize,
    after_special: bool,
    /// Where the text since the last special token begins.
    segment: usize,
    /// Where the group's text begins, and where that was before a space was put in front.
    start: usize,
    before: usize,
}

impl<'a> Group<'a> {
    fn new(pipeline: &'a Pipeline, tokenizer: &'a Tokenizer, settings: SlowSettings) -> Self {
        let table = tokenizer.decode_table();
        Self {
            pipeline,
            tokenizer,
            table,
            settings,
            position: table.begin(settings.legacy),
            pending: Vec::new(),
            count: 0,
            after_special: false,
            segment: 0,
            start: 0,
            before: 0,
        }
    }

    /// The first token, without its `▁` where that stands for the prefix.
    fn first(&self, token: &'a str) -> Item<'a> {
        let rest = token.strip_prefix(SPACE_SYMBOL).filter(|_| self.settings.add_prefix_space);
        self.pipeline.item(self.tokenizer, rest.unwrap_or(token))
    }

    fn push(&mut self, item: Item<'_>, out: &mut Vec<u8>) -> Result<()> {
        let index = self.count;
        self.count += 1;
        let token = match item {
            Item::Special(token) => {
                self.flush(out)?;
                if !self.after_special && index > 0 && self.settings.legacy {
                    // It stands before the text since the last special token, as it does there.
                    out.insert(self.segment, b' ');
                }
                out.extend_from_slice(token.as_bytes());
                self.segment = out.len();
                self.position = self.table.begin(self.settings.legacy);
                self.after_special = true;
                return Ok(());
            }
            Item::Piece(id) => {
                if !self.after_special || index != 1 {
                    self.pending.push(id);
                    self.after_special = false;
                    return Ok(());
                }
                self.pending.push(id);
                let piece = self.tokenizer.model().vocabulary.get(id);
                piece.map_or("", |piece| piece.text.as_str())
            }
            Item::Verbatim(token) => {
                self.flush(out)?;
                token
            }
        };
        if self.after_special
            && index == 1
            && self.settings.add_prefix_space
            && !token.starts_with(SPACE_SYMBOL)
        {
            out.push(b' ');
            self.segment = out.len();
        }
        self.after_special = false;
        if let Item::Verbatim(token) = item {
            self.position.pass(token);
            out.extend_from_slice(token.as_bytes());
        }
        Ok(())
    }

    /// Decodes the pieces that are pending.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let result = self.table.decode_part(&self.pending, &mut self.position, out);
        self.pending.clear();
        result
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.flush(out)
    }
}

/// The decoders give whole pieces and whole characters, so nothing is replaced.
fn into_string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// `PreTrainedTokenizerBase.clean_up_tokenization` (transformers 4.57.6).
fn clean_up(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    text
}
