//! Ids that arrive one after the other to text, by the decoder of a `tokenizer.json`.

use super::json_decode::{end_run, Unit};
use super::Pipeline;
use crate::vocabulary::TokenId;
use crate::{Error, Result};

/// Turns ids into text as they arrive, by the decoder of a `tokenizer.json`.
///
/// Whatever the ids are and however they are cut into pushes, the texts of all pushes and of
/// [`finish`](Self::finish), joined, are what [`JsonTokenizer::decode`](super::JsonTokenizer::decode) gives
/// for the whole. A run of byte tokens is held back until it ends, since a byte that is no UTF-8 makes all
/// of the run U+FFFD.
#[derive(Debug, Clone)]
pub struct JsonStreamDecoder {
    pipeline: Pipeline,
    size: usize,
    skip_special: bool,
    /// The bytes of the run that is under way.
    run: Vec<u8>,
    at_start: bool,
}

impl JsonStreamDecoder {
    pub(super) fn new(pipeline: Pipeline, size: usize, skip_special: bool) -> Self {
        Self { pipeline, size, skip_special, run: Vec::new(), at_start: true }
    }

    /// Takes ids and appends the text that is complete by now to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange); the decoder and `out` are then
    /// unchanged.
    pub fn push(&mut self, ids: &[TokenId], out: &mut String) -> Result<()> {
        if let Some(index) = ids.iter().position(|&id| id as usize >= self.size) {
            return Err(Error::id_out_of_range(ids[index].into(), index, self.size));
        }
        let mut text = String::new();
        let Self { pipeline, run, skip_special, .. } = self;
        if let Some(decoder) = pipeline.json_decoder() {
            for unit in ids.iter().filter_map(|&id| decoder.unit(id, *skip_special)) {
                match unit {
                    Unit::Byte(byte) => run.push(byte),
                    Unit::Text(piece) => {
                        flush(run, &mut text);
                        text.push_str(piece);
                    }
                }
            }
        }
        self.give(&text, out);
        Ok(())
    }

    /// Ends the stream: appends what was held back to `out`. The decoder may be used again, as new.
    pub fn finish(&mut self, out: &mut String) {
        let mut text = String::new();
        flush(&mut self.run, &mut text);
        self.give(&text, out);
        self.at_start = true;
    }

    /// Appends the next part of the text, without the space that is taken off its beginning.
    fn give(&mut self, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        let strips = self.at_start
            && self.pipeline.json_decoder().is_some_and(super::json_decode::JsonDecoder::strips);
        self.at_start = false;
        out.push_str(text.strip_prefix(' ').filter(|_| strips).unwrap_or(text));
    }
}

/// Ends a run of bytes.
fn flush(run: &mut Vec<u8>, text: &mut String) {
    end_run(0, true, run);
    // A run that has ended is UTF-8; nothing is replaced.
    text.push_str(&String::from_utf8_lossy(run));
    run.clear();
}
