//! Texts: all ways to encode them must agree.

use llamatok::pipeline::{PipelineOptions, Sequences, SlowSettings};
use llamatok::{AddedToken, EncodeOptions};

use crate::vocabularies::{FILES, MODELS, PIPELINES};

/// Any bytes as a text; the first one says by which vocabulary, and with which options.
pub(crate) fn encode(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let options = EncodeOptions {
        add_bos: choice & 0x10 != 0,
        add_eos: choice & 0x20 != 0,
        parse_special: choice & 0x40 != 0,
    };
    let threads = if choice & 0x80 != 0 { Some(2) } else { Some(1) };
    let number = usize::from(choice & 15) % (MODELS.len() + FILES.len());
    let lossy = lossy(text);
    let texts = [text, lossy.as_bytes(), b"", text];
    let check = |ids: Vec<u32>, batch: llamatok::TokenBatch, counts: Vec<i64>, count: usize| {
        assert_eq!(ids.len(), count);
        assert_eq!(batch.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect::<Vec<_>>(), counts);
        let row = |index: usize| &batch.ids[batch.offsets[index] as usize..batch.offsets[index + 1] as usize];
        assert!([row(0), row(1), row(3)] == [&ids[..]; 3], "alone, and in a batch");
        ids
    };
    if let Some(ways) = MODELS.get(number) {
        let ids = ways.agree(|tokenizer| {
            let mut ids = Vec::new();
            tokenizer.encode_into(text, &options, &mut ids).unwrap();
            let batch = tokenizer.encode_batch(&texts, &options, threads).unwrap();
            let counts = tokenizer.count_batch(&texts, &options, threads).unwrap();
            check(ids, batch, counts, tokenizer.count(text, &options).unwrap())
        });
        let decoded = ways.fast().decode(&ids, false).unwrap();
        if number == 0 && options == EncodeOptions::default() {
            assert_eq!(decoded, lossy.replace('▁', " "));
        }
    } else {
        FILES[number - MODELS.len()].agree(|tokenizer| {
            let mut ids = Vec::new();
            tokenizer.encode_into(text, &options, &mut ids).unwrap();
            let batch = tokenizer.encode_batch(&texts, &options, threads).unwrap();
            let counts = tokenizer.count_batch(&texts, &options, threads).unwrap();
            check(ids, batch, counts, tokenizer.count(text, &options).unwrap())
        });
    }
}

/// The text of bytes: each that begins no valid sequence is U+FFFD, as in SentencePiece.
fn lossy(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(bytes) {
            Ok(rest) => return text + rest,
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                text.push('\u{FFFD}');
                bytes = &rest[1..];
            }
        }
    }
}

/// Added tokens and a text: lines, the last of which is the text. Each line's first byte has the flags.
pub(crate) fn added_tokens(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let rest = String::from_utf8_lossy(rest);
    let mut lines: Vec<&str> = rest.split('\n').take(65).collect();
    let text = lines.pop().unwrap_or("");
    let tokens: Vec<AddedToken> = lines
        .iter()
        .zip(30_000..)
        .filter_map(|(line, id)| {
            let flags = line.chars().next()?;
            let flag = |bit: u32| u32::from(flags) >> bit & 1 != 0;
            Some(AddedToken {
                id: if flag(5) { id } else { id - 29_900 },
                content: line[flags.len_utf8()..].into(),
                single_word: flag(0),
                lstrip: flag(1),
                rstrip: flag(2),
                normalized: flag(3),
                special: flag(4),
            })
        })
        .collect();
    let settings = SlowSettings { legacy: choice & 1 != 0, add_prefix_space: choice & 2 != 0 };
    let split_special_tokens = choice & 4 != 0;
    let number = usize::from(choice >> 3);
    let ways = if choice & 0x80 == 0 {
        let pipelines = &PIPELINES[number % PIPELINES.len()];
        pipelines.map(|pipeline| pipeline.with_settings(settings).unwrap().with_added_tokens(tokens.clone()))
    } else {
        FILES[number % FILES.len()].map(|tokenizer| tokenizer.pipeline().with_added_tokens(tokens.clone()))
    };
    ways.agree(|pipeline| {
        let encoded = |details| {
            let options = PipelineOptions { split_special_tokens, details, ..PipelineOptions::default() };
            let texts = Sequences { parts: &[text, "a"], ends: None };
            pipeline.encode_batch(texts, None, &options, Some(1)).unwrap()
        };
        let (plain, detailed) = (encoded(false), encoded(true));
        assert_eq!(plain.ids, detailed.ids, "with offsets, and without");
        let len = text.chars().count().max(1) as i32;
        for [start, end] in detailed.spans.unwrap_or_default() {
            assert!(0 <= start && start <= end && end <= len, "{start}..{end} of {len}");
        }
        let mut text = String::new();
        // Ids that no token has are an error by some rules.
        let _ = pipeline.decode(&plain.ids, &llamatok::pipeline::DecodeOptions::default(), &mut text);
        plain.ids
    });
}
