//! GGUF files, written by a small writer.

use super::{assert_same, message, pieces};
use crate::load::charsmap::tests::frame;
use crate::load::from_bytes;
use crate::{ErrorKind, ModelFormat, Piece, PieceKind};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// A GGUF file as a list of keys with their encoded types and values.
pub(super) struct Writer {
    version: u32,
    entries: Vec<(String, Vec<u8>)>,
}

fn encoded(value_type: u32, value: &[u8]) -> Vec<u8> {
    [&value_type.to_le_bytes(), value].concat()
}

fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn array(value_type: u32, values: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = value_type.to_le_bytes().to_vec();
    bytes.extend((values.len() as u64).to_le_bytes());
    bytes.extend(values.flatten());
    encoded(9, &bytes)
}

fn u32_value(value: u32) -> Vec<u8> {
    encoded(4, &value.to_le_bytes())
}

impl Writer {
    pub(super) fn good() -> Self {
        let mut writer = Self::settings_only();
        writer.set_pieces(&pieces());
        writer
    }

    /// A file without pieces.
    pub(super) fn settings_only() -> Self {
        let mut writer = Self { version: 3, entries: Vec::new() };
        writer
            .set("general.architecture", encoded(8, &string("llama")))
            .set("general.name", encoded(8, &string("tiny\n")))
            .set("llama.context_length", u32_value(4096))
            .set("llama.epsilon", encoded(6, &1e-5_f32.to_le_bytes()))
            .set("unused.strings", array(8, ["a", "bc"].iter().map(string)))
            .set("unused.numbers", array(12, [1.0_f64, 2.0].iter().map(|x| x.to_le_bytes().to_vec())))
            .set("unused.long", encoded(8, &string("x".repeat(3000))))
            .set(MODEL, encoded(8, &string("llama")))
            .set(BOS, u32_value(1))
            .set("tokenizer.ggml.eos_token_id", u32_value(2))
            .set("tokenizer.ggml.add_bos_token", encoded(7, &[1]))
            .set("tokenizer.ggml.add_eos_token", encoded(7, &[0]));
        writer
    }

    fn set(&mut self, key: &str, value: Vec<u8>) -> &mut Self {
        self.remove(key).entries.push((key.to_owned(), value));
        self
    }

    fn remove(&mut self, key: &str) -> &mut Self {
        self.entries.retain(|(name, _)| name != key);
        self
    }

    fn set_pieces(&mut self, pieces: &[Piece]) -> &mut Self {
        self.set(TOKENS, array(8, pieces.iter().map(|piece| string(&piece.text))))
            .set(SCORES, array(6, pieces.iter().map(|piece| piece.score.to_le_bytes().to_vec())))
            .set(TYPES, array(5, pieces.iter().map(|piece| (piece.kind as i32).to_le_bytes().to_vec())))
    }

    pub(super) fn finish(&self) -> Vec<u8> {
        let mut data = b"GGUF".to_vec();
        data.extend(self.version.to_le_bytes());
        data.extend(291_u64.to_le_bytes());
        data.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            data.extend(string(key));
            data.extend(value);
        }
        data
    }
}

/// What is said about a good file after `spoil`.
fn fault(kind: ErrorKind, spoil: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::good();
    spoil(&mut writer);
    message(kind, &writer.finish())
}

fn with(key: &str, value: Vec<u8>) -> String {
    fault(ErrorKind::ModelFormat, |writer| {
        writer.set(key, value);
    })
}

#[test]
fn a_file_says_what_was_written() {
    for version in [2, 3] {
        let mut writer = Writer::good();
        writer.version = version;
        let header = writer.finish();
        let model = from_bytes(&[&header[..], b"tensors"].concat()).unwrap();
        assert_eq!(model.format, ModelFormat::Gguf);
        assert_eq!(model.vocabulary.pieces(), pieces());
        assert!(model.vocabulary.byte_ids().is_some());
        assert_eq!((model.bos_id, model.eos_id, model.pad_id), (Some(1), Some(2), Some(260)));
        assert_eq!((model.add_bos, model.add_eos), (Some(true), Some(false)));
        assert_eq!(model.unk_surface, " \u{2047} ");
        assert_eq!(model.normalizer.name, "identity");
        assert!(model.normalizer.add_dummy_prefix && model.normalizer.escape_whitespaces);
        assert!(!model.normalizer.remove_extra_whitespaces && !model.normalizer.treat_whitespace_as_suffix);
        assert_eq!(model.serialized, header);
        assert_same(&from_bytes(&model.serialized).unwrap(), &model);
        let shown: Vec<_> =
            model.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(shown[0], ("gguf.version", version.to_string().as_str()));
        for expected in
            [("general.name", "tiny\\n"), ("llama.context_length", "4096"), ("llama.epsilon", "0.00001")]
        {
            assert!(shown.contains(&expected), "{shown:?}");
        }
        assert!(!shown.iter().any(|(key, _)| key.starts_with("unused.")));
    }
}

#[test]
fn settings_are_heeded() {
    let mut writer = Writer::good();
    writer
        .set(PREFIX, encoded(7, &[0]))
        .set("tokenizer.ggml.remove_extra_whitespaces", encoded(7, &[1]))
        .set("tokenizer.ggml.padding_token_id", encoded(11, &0_i64.to_le_bytes()))
        .set(UNK, u32_value(0))
        .set(BOS, u32_value(260))
        .remove("tokenizer.ggml.add_bos_token")
        .set(CHARSMAP, array(1, frame(1024, b"\0").into_iter().map(|byte| vec![byte])));
    let model = from_bytes(&writer.finish()).unwrap();
    assert!(!model.normalizer.add_dummy_prefix && model.normalizer.remove_extra_whitespaces);
    assert_eq!(model.normalizer.precompiled_charsmap, frame(1024, b"\0"));
    assert_eq!((model.bos_id, model.pad_id, model.add_bos), (Some(260), Some(0), None));
}

#[test]
fn an_unknown_piece_of_kind_control_is_unknown() {
    let mut pieces = pieces();
    pieces[0].kind = PieceKind::Control;
    let mut writer = Writer::good();
    writer.set_pieces(&pieces);
    assert!(message(ErrorKind::ModelFormat, &writer.finish()).contains("no piece of kind UNKNOWN"));
    writer.set(UNK, u32_value(0));
    assert_eq!(from_bytes(&writer.finish()).unwrap().vocabulary.get(0).unwrap().kind, PieceKind::Unknown);
    writer.set(UNK, u32_value(3));
    assert!(
        message(ErrorKind::ModelFormat, &writer.finish()).contains("\"<0x00>\" of kind BYTE, not UNKNOWN")
    );
    assert!(with(UNK, u32_value(1)).contains("\"<s>\" of kind CONTROL, not UNKNOWN"));
}

#[test]
fn unsupported_files_are_named() {
    for kind in ["gpt2", "bert", "t5"] {
        let found = fault(ErrorKind::Unsupported, |writer| {
            writer.set(MODEL, encoded(8, &string(kind)));
        });
        assert!(found.starts_with(MODEL) && found.contains(&format!("`{kind}`")), "{found}");
    }
    for (version, expected) in [
        (0, "version 0"),
        (1, "version 1"),
        (4, "version 4"),
        (3 << 24, "big-endian"),
        (u32::MAX, "4294967295"),
    ] {
        let found = fault(ErrorKind::Unsupported, |writer| writer.version = version);
        assert!(found.starts_with("version: ") && found.contains(expected), "{found}");
    }
    let nested = encoded(9, &[&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
    let found = fault(ErrorKind::Unsupported, |writer| {
        writer.set("nested", nested);
    });
    assert!(found.starts_with("nested: ") && found.contains("arrays of arrays"), "{found}");
}

#[test]
fn missing_and_ill_typed_keys_are_named() {
    for key in [MODEL, TOKENS, SCORES, TYPES] {
        let found = fault(ErrorKind::ModelFormat, |writer| {
            writer.remove(key);
        });
        assert!(found.starts_with(&format!("{key}: the key is missing")), "{found}");
        let found = with(key, u32_value(1));
        assert!(found.starts_with(&format!("{key}: the value is an integer, but should be ")), "{found}");
    }
    for (key, value, expected) in [
        (SCORES, array(12, [0_f64].iter().map(|x| x.to_le_bytes().to_vec())), "an array of F64"),
        (BOS, encoded(8, &string("1")), "a string, but should be an integer"),
        (BOS, encoded(6, &1_f32.to_le_bytes()), "a floating-point number"),
        (PREFIX, u32_value(1), "should be a bool"),
        (PREFIX, encoded(7, &[2]), "a bool is 0 or 1, not 2"),
        (CHARSMAP, array(5, std::iter::empty()), "should be an array of bytes"),
        (CHARSMAP, array(0, [vec![1], vec![2]].into_iter()), "too few"),
        ("other", encoded(13, &[0; 8]), "there is no metadata type 13"),
    ] {
        let found = with(key, value);
        assert!(found.starts_with(&format!("{key}: ")) && found.contains(expected), "{found}");
    }
}

#[test]
fn ids_out_of_range_are_named() {
    for (value, shown) in [
        (u32_value(263), "263"),
        (u32_value(u32::MAX), "4294967295"),
        (encoded(5, &(-1_i32).to_le_bytes()), "-1"),
        (encoded(10, &u64::MAX.to_le_bytes()), "18446744073709551615"),
    ] {
        for name in ["bos", "eos", "unknown", "padding"] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let found = with(&key, value.clone());
            assert_eq!(found, format!("{key}: id {shown} is out of range: the vocabulary has 263 pieces"));
        }
    }
}

#[test]
fn faulty_pieces_are_named() {
    let replaced = |spoil: fn(&mut Piece)| {
        let mut pieces = pieces();
        spoil(&mut pieces[259]);
        fault(ErrorKind::ModelFormat, |writer| {
            writer.set_pieces(&pieces);
        })
    };
    for (found, expected) in [
        (replaced(|piece| piece.score = f32::NAN), "pieces[259]: the score"),
        (replaced(|piece| piece.text = "ab".into()), "already defined, by id 259"),
        (replaced(|piece| piece.text.clear()), "pieces[259]: the piece is empty"),
        (replaced(|piece| piece.kind = PieceKind::Unknown), "a second unknown piece"),
        (replaced(|piece| piece.kind = PieceKind::Byte), "is no byte piece"),
        (with(TOKENS, array(8, [string(b"\xff")].into_iter())), "scores: 263 entries for 1 tokens"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    let short = array(5, [vec![2, 0, 0, 0]].into_iter());
    assert_eq!(with(TYPES, short), format!("{TYPES}: 1 entries for 263 tokens"));

    let one = |token: &[u8], kind: i32| {
        fault(ErrorKind::ModelFormat, |writer| {
            writer
                .set(TOKENS, array(8, [string(token)].into_iter()))
                .set(SCORES, array(6, [vec![0; 4]].into_iter()))
                .set(TYPES, array(5, [kind.to_le_bytes().to_vec()].into_iter()));
        })
    };
    assert_eq!(one(b"a\xff", 1), format!("{TOKENS}[0]: the token \"a\\xff\" is not valid UTF-8"));
    assert_eq!(one(b"a", 0), format!("{TYPES}[0]: the token \"a\" is of the unknown type 0"));
    assert_eq!(one(b"a", -5), format!("{TYPES}[0]: the token \"a\" is of the unknown type -5"));
    // Ids are checked against the pieces first, so these name no special pieces.
    let missing_bytes = fault(ErrorKind::ModelFormat, |writer| {
        writer.set_pieces(&pieces()[..258]);
    });
    assert!(missing_bytes.contains("the byte piece <0xFF> is missing"), "{missing_bytes}");
}

#[test]
fn duplicate_keys_are_refused() {
    let found = fault(ErrorKind::ModelFormat, |writer| writer.entries.push((BOS.into(), u32_value(1))));
    assert_eq!(found, format!("{BOS}: the metadata key occurs twice"));
}

#[test]
fn absurd_lengths_are_refused_without_allocation() {
    for len in [1 << 29, u64::MAX / 8, u64::MAX - 7, u64::MAX] {
        let len_bytes = len.to_le_bytes();
        for value in [
            encoded(8, &len_bytes),
            encoded(9, &[&4_u32.to_le_bytes()[..], &len_bytes].concat()),
            encoded(9, &[&8_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &len_bytes].concat()),
        ] {
            let found = with("big", value);
            assert!(found.starts_with("big: byte ") && found.contains("limit of 268435456"), "{found}");
        }
        // As many strings as that: the file ends first.
        let found = with("big", encoded(9, &[&8_u32.to_le_bytes()[..], &len_bytes].concat()));
        assert!(found.starts_with("big: byte ") && found.contains("the file ends"), "{found}");
        let mut data = Writer::good().finish();
        data[16..24].copy_from_slice(&len_bytes);
        assert!(message(ErrorKind::ModelFormat, &data).contains("more than the limit of 65536"));
    }
    let mut data = Writer::good().finish();
    data[24..32].copy_from_slice(&65536_u64.to_le_bytes());
    assert!(message(ErrorKind::ModelFormat, &data).contains("a key of 65536 bytes"));
    data[24..32].copy_from_slice(&1_u64.to_le_bytes());
    data[32] = 0xff;
    assert!(
        message(ErrorKind::ModelFormat, &data).contains("metadata[0]: byte 24: the key is not valid UTF-8")
    );
}

#[test]
fn truncated_files_are_located() {
    let data = Writer::good().finish();
    for (len, field) in [(5, "version"), (12, "tensor_count"), (20, "metadata_kv_count"), (30, "metadata[0]")]
    {
        let found = message(ErrorKind::ModelFormat, &data[..len]);
        assert!(found.starts_with(field) && found.contains(&format!("ends at byte {len}")), "{found}");
    }
    let found = message(ErrorKind::ModelFormat, &data[..data.len() - 1]);
    assert!(found.starts_with(&format!("{TYPES}: byte ")) && found.contains("cut off"), "{found}");
    for len in (4..data.len()).step_by(7) {
        message(ErrorKind::ModelFormat, &data[..len]);
    }
}
