//! The parts of the tokenizer, each by itself as far as the public calls allow, on one thread.
//!
//! `cargo bench -p llamatok` runs all, `cargo bench -p llamatok -- decode` those whose name contains
//! "decode". `LLAMATOK_BENCH_MODEL` and `LLAMATOK_BENCH_TEXT` name another vocabulary and text.

mod texts;

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use llamatok::{EncodeOptions, Model, TokenId, Tokenizer};

const OPTIONS: EncodeOptions = EncodeOptions { add_bos: false, add_eos: false, parse_special: false };

/// A text whose units and their entries stay in the second-level cache, and one whose do not.
const SMALL: usize = 100 << 10;
const LARGE: usize = 16 << 20;

fn tokenizer(model: &Model, cache_bytes: Option<usize>) -> Tokenizer {
    Tokenizer::new(model.clone(), cache_bytes).expect("a tokenizer")
}

/// Encodes into a buffer that is used again, so that no new memory is touched.
fn encode(tokenizer: &Tokenizer, text: &[u8], ids: &mut Vec<TokenId>) {
    ids.clear();
    tokenizer.encode_into(black_box(text), &OPTIONS, ids).expect("ids");
    black_box(ids);
}

/// From a file's bytes in memory to a tokenizer.
fn load(criterion: &mut Criterion) {
    let data = texts::model().serialized;
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function("model", |bencher| {
        bencher.iter(|| Tokenizer::from_bytes(black_box(&data), None).expect("a tokenizer"));
    });
    group.finish();
}

/// Scan and look-up: all units are in the cache.
fn warm(criterion: &mut Criterion) {
    let model = texts::model();
    let mut group = criterion.benchmark_group("encode warm");
    for (name, len) in [("small", SMALL), ("large", LARGE)] {
        let text = texts::prose(len);
        let tokenizer = tokenizer(&model, None);
        let mut ids = Vec::new();
        // Twice, since entries are lost when the tables grow.
        encode(&tokenizer, &text, &mut ids);
        encode(&tokenizer, &text, &mut ids);
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
        group.bench_function(name, |bencher| bencher.iter(|| encode(&tokenizer, &text, &mut ids)));
    }
    group.finish();
}

/// The first text of a tokenizer: the cache begins empty and grows.
fn cold(criterion: &mut Criterion) {
    let model = texts::model();
    let mut group = criterion.benchmark_group("encode cold");
    group.sample_size(10);
    for (name, len) in [("small", SMALL), ("large", LARGE)] {
        let text = texts::prose(len);
        let mut ids = Vec::with_capacity(len);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || tokenizer(&model, None),
                |tokenizer| encode(tokenizer, &text, &mut ids),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Merging: there is no cache, so each unit is merged each time.
fn merge(criterion: &mut Criterion) {
    let tokenizer = tokenizer(&texts::model(), Some(0));
    let mut group = criterion.benchmark_group("merge");
    for (name, text) in [
        ("short words", texts::unique_words(SMALL)),
        ("one long word", texts::long_word(SMALL)),
        ("runs of spaces", texts::runs_of_spaces(SMALL)),
    ] {
        let mut ids = Vec::new();
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(50);
        group.bench_function(name, |bencher| bencher.iter(|| encode(&tokenizer, &text, &mut ids)));
    }
    group.finish();
}

/// The engine that serves the vocabularies which the fast one cannot.
fn general(criterion: &mut Criterion) {
    // Read when a tokenizer is made, and no other thread is running here.
    std::env::set_var("LLAMATOK_ENGINE", "general");
    let tokenizer = tokenizer(&texts::model(), None);
    std::env::remove_var("LLAMATOK_ENGINE");
    assert!(tokenizer.general_because().is_some());
    let mut group = criterion.benchmark_group("general engine");
    for (name, text) in [("prose", texts::prose(SMALL)), ("one long word", texts::long_word(SMALL))] {
        let mut ids = Vec::new();
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
        group.bench_function(name, |bencher| bencher.iter(|| encode(&tokenizer, &text, &mut ids)));
    }
    group.finish();
}

/// Ids to text, in bytes of text.
fn decode(criterion: &mut Criterion) {
    let tokenizer = tokenizer(&texts::model(), None);
    let text = texts::prose(LARGE / 16);
    let mut ids = Vec::new();
    encode(&tokenizer, &text, &mut ids);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(50);
    group.bench_function("whole", |bencher| {
        bencher.iter(|| tokenizer.decode(black_box(&ids), false).expect("a text"));
    });
    group.bench_function("batch", |bencher| {
        let offsets = [0, ids.len() as i64];
        bencher.iter(|| tokenizer.decode_batch(black_box(&ids), &offsets, false, Some(1)).expect("a text"));
    });
    group.bench_function("stream, an id at a time", |bencher| {
        let mut out = String::with_capacity(text.len() * 2);
        bencher.iter(|| {
            out.clear();
            let mut decoder = tokenizer.stream_decoder(false);
            for id in black_box(&ids) {
                decoder.push(std::slice::from_ref(id), &mut out).expect("a text");
            }
            decoder.finish(&mut out);
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(benches, load, warm, cold, merge, general, decode);
criterion_main!(benches);
