//! Models built in the test, read back, and spoiled in every way that the loaders look for.

mod gguf;
mod sentencepiece;
mod tokenizer_json;

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::Piece;

/// A vocabulary with bytes, a user-defined and an unused piece; control pieces at 1, 2 and 260.
fn pieces() -> Vec<Piece> {
    let piece = |text: &str, score, kind| Piece { text: text.to_owned(), score, kind };
    let mut pieces = vec![
        piece("<unk>", 0.0, PieceKind::Unknown),
        piece("<s>", 0.0, PieceKind::Control),
        piece("</s>", 0.0, PieceKind::Control),
    ];
    pieces.extend((0..=255).map(|byte: u8| piece(&format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte)));
    pieces.extend([
        piece("\u{2581}a", -1.5, PieceKind::Normal),
        piece("<pad>", 0.0, PieceKind::Control),
        piece("<mask>", 0.0, PieceKind::UserDefined),
        piece("ab", -2.0, PieceKind::Unused),
    ]);
    pieces
}

/// What an error says, once it is sure that it is of the kind.
fn message(kind: ErrorKind, data: &[u8]) -> String {
    let error = from_bytes(data).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.vocabulary.pieces(), b.vocabulary.pieces());
    assert_eq!(a.normalizer, b.normalizer);
    assert_eq!((a.bos_id, a.eos_id, a.pad_id), (b.bos_id, b.eos_id, b.pad_id));
    assert_eq!((a.add_bos, a.add_eos), (b.add_bos, b.add_eos));
    assert_eq!(a.unk_surface, b.unk_surface);
    assert_eq!(a.metadata, b.metadata);
    assert_eq!(a.serialized, b.serialized);
}

/// A file that is removed when the test is over.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, data: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("llamatok-load-{}-{name}", std::process::id()));
        File::create(&path).unwrap().write_all(data).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn files_give_the_same_as_their_bytes() {
    for (name, data) in
        [("a.model", sentencepiece::Proto::good().encode()), ("a.gguf", gguf::Writer::good().finish())]
    {
        let file = TempFile::new(name, &data);
        assert_same(&from_file(&file.0).unwrap(), &from_bytes(&data).unwrap());
    }
}

#[test]
fn a_tokenizer_json_is_told_from_a_model() {
    let model = sentencepiece::Proto::good().encode();
    let json = b"\n {\"version\": \"1.0\"}".to_vec();
    for (name, data) in [("b.model", &model), ("b.json", &json)] {
        let file = TempFile::new(name, data);
        for found in [find_in_file(&file.0).unwrap(), find(data.clone()).unwrap()] {
            match found {
                Found::Model(found) => assert_eq!(found.serialized, model),
                Found::TokenizerJson(found) => assert_eq!(found, json),
            }
        }
        assert_eq!(from_file(&file.0).is_ok(), name == "b.model");
    }
    assert_eq!(find(b"neither".to_vec()).unwrap_err().kind(), ErrorKind::ModelFormat);
}

#[test]
fn file_errors_name_the_file() {
    let missing = from_file("no/such/tokenizer.model").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert_eq!(missing.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    assert!(missing.to_string().starts_with("no/such/tokenizer.model: "), "{missing}");

    let empty = TempFile::new("empty.model", b"");
    let error = from_file(&empty.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelFormat);
    assert_eq!(error.to_string(), format!("{}: file: the file is empty", empty.0.display()));

    assert_eq!(from_file(std::env::temp_dir()).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn oversized_files_are_refused_unread() {
    for start in [&b"\x0a"[..], b"{\"version\": \"1.0\"}"] {
        let file = TempFile::new("large.model", start);
        let size = MAX_MODEL_BYTES as u64 + 1;
        File::options().write(true).open(&file.0).unwrap().set_len(size).unwrap();
        let error = from_file(&file.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelFormat);
        assert!(
            error.to_string().contains(&format!("{size} bytes, more than the limit of 268435456")),
            "{error}"
        );
    }
}

#[test]
fn tensors_are_not_read() {
    let model = gguf::Writer::good().finish();
    let file = TempFile::new("tensors.gguf", &model);
    // A sparse file: reading it whole would not fit the memory of a test machine.
    File::options().write(true).open(&file.0).unwrap().set_len(40 << 30).unwrap();
    assert_eq!(from_file(&file.0).unwrap().serialized, model);
}

#[test]
fn other_files_are_named() {
    use ErrorKind::{ModelFormat, Unsupported};
    for (kind, data, expected) in [
        (
            ModelFormat,
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"[..],
            "git lfs pull",
        ),
        (ModelFormat, b"\n<!DOCTYPE html><html>", "web page"),
        (ModelFormat, b"<HTML>", "web page"),
        (ModelFormat, b"PK\x03\x04....", "ZIP"),
        (ModelFormat, b"\x1f\x8b\x08....", "compressed"),
        (ModelFormat, b"\x10\0\0\0\0\0\0\0{\"__metadata__\":{}}", "safetensors"),
        (Unsupported, b"{\n  \"version\": \"1.0\"}", "`JsonTokenizer` reads it"),
        (Unsupported, b"\xef\xbb\xbf \n{\"a\":1}", "JSON"),
        (Unsupported, b"{}", "JSON"),
        (Unsupported, b"IQ== 0\nIg== 1\n", "tiktoken"),
        (ModelFormat, b"Hello, this is not a model.", "neither a SentencePiece model nor a GGUF file"),
        (ModelFormat, b"GGU", "neither"),
        (ModelFormat, b"\0", "neither"),
    ] {
        let found = message(kind, data);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn shown_text_is_safe_for_terminals() {
    assert_eq!(printable("a\u{1b}[31m\n▁é"), "a\\u{1b}[31m\\n▁é");
    assert_eq!(printable(&"é".repeat(300)), format!("{}…", "é".repeat(256)));
}

fn good_models() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(sentencepiece::Proto::good().encode()),
        Just(gguf::Writer::good().finish()),
        // Small enough for most spoiled bytes to hit the structure.
        Just(sentencepiece::Proto::small().encode()),
        Just(gguf::Writer::settings_only().finish()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_bytes_never_panic(
        start in prop::sample::select(vec![&b""[..], b"\x0a", b"\x12", b"GGUF", b"GGUF\x03\0\0\0", b"GGUF\x02\0\0\0"]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = from_bytes(&[start, &rest].concat());
    }

    #[test]
    fn truncated_models_never_panic(model in good_models(), cut in any::<prop::sample::Index>()) {
        let _ = from_bytes(&model[..cut.index(model.len())]);
    }

    #[test]
    fn flipped_bytes_never_panic(
        mut model in good_models(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (index, byte) in flips {
            let index = index.index(model.len());
            model[index] = byte;
        }
        if let Ok(read) = from_bytes(&model) {
            // What was read is sound: it can be read again.
            assert_same(&from_bytes(&read.serialized).unwrap(), &read);
        }
    }
}
