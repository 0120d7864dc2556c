//! Files: what loads must encode and decode, by all engines alike.

use llamatok::pipeline::{PipelineOptions, Sequences};
use llamatok::{EncodeOptions, JsonTokenizer, Pipeline, Tokenizer};

use crate::vocabularies::Ways;

const PROBES: [&str; 4] =
    ["hello there", " <s>a ▁\u{1F999}\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab  ab", ""];

/// A `tokenizer.model`.
pub(crate) fn sentencepiece(data: &[u8]) {
    if !data.starts_with(b"GGUF") {
        model(data);
    }
}

/// A GGUF file; the four bytes that it begins with are put in front.
pub(crate) fn gguf(data: &[u8]) {
    model(&[b"GGUF", data].concat());
}

fn model(data: &[u8]) {
    let Ok(ways) = Ways::new(|cache| Tokenizer::from_bytes(data, Some(cache))) else { return };
    let tokenizer = ways.fast();
    let mut expected = Vec::new();
    let mut offsets = vec![0];
    for text in PROBES {
        let ids = ways.agree(|tokenizer| {
            let mut ids = Vec::new();
            tokenizer.encode_into(text.as_bytes(), &EncodeOptions::default(), &mut ids).unwrap();
            ids
        });
        let mut stream = tokenizer.stream_decoder(false);
        let mut parts = String::new();
        for id in &ids {
            stream.push(&[*id], &mut parts).unwrap();
        }
        stream.finish(&mut parts);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), parts);
        expected.extend(ids);
        offsets.push(expected.len() as i64);
    }
    let batch = tokenizer.encode_batch(&PROBES, &EncodeOptions::default(), Some(1)).unwrap();
    assert_eq!((batch.ids, batch.offsets), (expected, offsets));
    // What was loaded can be saved and loaded again.
    let again = Tokenizer::from_bytes(&tokenizer.model().serialized, Some(0)).unwrap();
    assert_eq!(again.model().vocabulary.len(), tokenizer.model().vocabulary.len());
}

/// A `tokenizer.json`: the pipeline, and what is written of it, which must load again.
pub(crate) fn tokenizer_json(data: &[u8]) {
    let Ok(ways) = Ways::new(|cache| Pipeline::from_tokenizer_json(data, Some(cache))) else { return };
    let lists = ways.agree(|pipeline| encoded(pipeline, false));
    assert_eq!(encoded(ways.fast(), true), lists, "with offsets, and without");
    let again = Pipeline::from_tokenizer_json(&ways.fast().to_tokenizer_json().unwrap(), Some(0)).unwrap();
    assert_eq!(encoded(&again, false), lists, "what is written, and what was read");
    let mut text = String::new();
    ways.fast().decode(&lists.0, &llamatok::pipeline::DecodeOptions::default(), &mut text).unwrap();
    if let Ok(tokenizer) = JsonTokenizer::from_bytes(data.to_vec(), Some(0)) {
        let _ = tokenizer.encode_batch(&PROBES, &EncodeOptions::default(), Some(1)).unwrap();
    }
}

fn encoded(pipeline: &Pipeline, details: bool) -> (Vec<u32>, Vec<i64>) {
    let options = PipelineOptions { details, dropout: Some(0.0), ..PipelineOptions::default() };
    let texts = Sequences { parts: &PROBES, ends: None };
    let batch = pipeline.encode_batch(texts, None, &options, Some(1)).unwrap();
    if let Some(spans) = &batch.spans {
        let longest = PROBES.iter().map(|text| text.chars().count() as i32).max().unwrap_or(0);
        assert!(spans.iter().all(|[start, end]| 0 <= *start && start <= end && *end <= longest));
    }
    (batch.ids, batch.row_offsets)
}
