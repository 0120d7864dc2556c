use super::*;
use crate::load::tokenizer_json::read;
use crate::TokenId;

/// A file with a vocabulary of characters and no merges.
fn file(normalizer: &str, pre_tokenizer: &str, characters: &str) -> TokenizerJson {
    let mut vocab: Vec<char> = characters.chars().chain(['▁']).collect();
    vocab.sort_unstable();
    vocab.dedup();
    let vocab: Vec<String> =
        vocab.iter().map(|c| format!("\"\\u{:04x}\": {}", *c as u32, *c as u32)).collect();
    let file = format!(
        r#"{{"normalizer": {normalizer}, "pre_tokenizer": {pre_tokenizer},
            "model": {{"type": "BPE", "vocab": {{{}}}, "merges": []}}}}"#,
        vocab.join(", ")
    );
    read(file.as_bytes()).unwrap()
}

/// Ranges of bytes as ranges of characters.
fn characters(text: &str, range: (usize, usize)) -> (usize, usize) {
    (text[..range.0].chars().count(), text[..range.1].chars().count())
}

/// What the tokenizers library (0.23.3) gives: the normalized text, and for each character of it the
/// characters of the original and the word.
type Measured =
    (&'static str, &'static str, &'static str, &'static str, &'static [(usize, usize)], &'static [usize]);

const MEASURED: &[Measured] = &[
    (
        r#"{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}"#,
        "null",
        " ab  é",
        "▁▁ab▁▁é",
        &[(0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)],
        &[0, 0, 0, 0, 0, 0, 0],
    ),
    (
        "null",
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}"#,
        "ab  é",
        "▁ab▁▁é",
        &[(0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
        &[0, 0, 0, 0, 0, 0],
    ),
    (
        "null",
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#,
        " ab  é",
        "▁ab▁▁é",
        &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)],
        &[0, 0, 0, 1, 2, 2],
    ),
    (
        r#"{"type": "NFKC"}"#,
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true}"#,
        "ﬁ ½e\u{301}",
        "fi▁1⁄2é",
        &[(0, 1), (0, 1), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4)],
        &[0, 0, 1, 1, 1, 1, 1],
    ),
    (
        r#"{"type": "NFD"}"#,
        "null",
        "éa각",
        "e\u{301}a각",
        &[(0, 1), (0, 1), (1, 2), (2, 3), (2, 3), (2, 3)],
        &[0, 0, 0, 0, 0, 0],
    ),
    (r#"{"type": "NFC"}"#, "null", "e\u{301}\u{323}a", "ẹ\u{301}a", &[(0, 1), (2, 3), (3, 4)], &[0, 0, 0]),
    (
        r#"{"type": "Lowercase"}"#,
        "null",
        "AİB",
        "ai\u{307}b",
        &[(0, 1), (1, 2), (1, 2), (2, 3)],
        &[0, 0, 0, 0],
    ),
    (
        r#"{"type": "Strip", "strip_left": true, "strip_right": true}"#,
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}"#,
        " \u{9}ab ",
        "ab",
        &[(2, 3), (3, 4)],
        &[0, 0],
    ),
    (
        r#"{"type": "StripAccents"}"#,
        "null",
        "\u{301}ae\u{301}b",
        "aeb",
        &[(1, 2), (2, 3), (4, 5)],
        &[0, 0, 0],
    ),
    (r#"{"type": "Nmt"}"#, "null", "\u{1}a\u{200B}b\u{7F}", "a b", &[(1, 2), (2, 3), (3, 4)], &[0, 0, 0]),
    (
        r#"{"type": "Replace", "pattern": {"String": "ab"}, "content": "xyz"}"#,
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}"#,
        "abcab",
        "xyzcxyz",
        &[(1, 2), (1, 2), (1, 2), (2, 3), (4, 5), (4, 5), (4, 5)],
        &[0, 0, 0, 0, 0, 0, 0],
    ),
    (
        r#"{"type": "Replace", "pattern": {"String": "a"}, "content": ""}"#,
        "null",
        "aab a",
        "b ",
        &[(2, 3), (3, 4)],
        &[0, 0],
    ),
    (
        r#"{"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]}"#,
        "null",
        "ﬁ ½",
        "▁fi▁1⁄2",
        &[(0, 1), (0, 1), (0, 1), (1, 2), (2, 3), (2, 3), (2, 3)],
        &[0, 0, 0, 0, 0, 0, 0],
    ),
];

#[test]
fn text_and_ranges_are_those_of_the_library() {
    for &(normalizer, pre_tokenizer, text, normalized, ranges, words) in MEASURED {
        let file = file(normalizer, pre_tokenizer, normalized);
        let encoder = Encoder::new(&file, None);
        let (mut tokens, mut ids) = (Vec::new(), Vec::new());
        encoder.with_worker(|worker| {
            let part = encoder.normalize(text, 0).unwrap();
            encoder.encode_aligned(worker, part, None, &mut tokens).unwrap();
            encoder.encode_chunk(worker, text, 0, &mut ids).unwrap();
        });
        let expected: Vec<TokenId> = normalized.chars().map(|c| c as TokenId).collect();
        assert_eq!(
            tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
            expected,
            "{normalizer} {text:?}"
        );
        assert_eq!(ids, expected, "{normalizer} {text:?}");
        let found: Vec<_> = tokens.iter().map(|token| characters(text, token.range)).collect();
        assert_eq!(found, ranges, "{normalizer} {text:?}");
        assert_eq!(tokens.iter().map(|token| token.word).collect::<Vec<_>>(), words, "{normalizer} {text:?}");
    }
}

#[test]
fn chunks_remember_where_they_begin() {
    let pre_tokenizer =
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}"#;
    let encoder = Encoder::new(&file("null", pre_tokenizer, "ab"), None);
    for (start, expected) in
        [(0, &[('▁', (0, 1)), ('a', (0, 1)), ('b', (1, 2))][..]), (3, &[('a', (3, 4)), ('b', (4, 5))])]
    {
        let (mut tokens, mut ids) = (Vec::new(), Vec::new());
        encoder.with_worker(|worker| {
            let part = encoder.normalize("ab", start).unwrap();
            encoder.encode_aligned(worker, part, None, &mut tokens).unwrap();
            encoder.encode_chunk(worker, "ab", start, &mut ids).unwrap();
        });
        let found: Vec<_> =
            tokens.iter().map(|token| (char::from_u32(token.id).unwrap(), token.range)).collect();
        assert_eq!(found, expected);
        assert_eq!(ids, expected.iter().map(|&(c, _)| c as TokenId).collect::<Vec<_>>());
    }
}

#[test]
fn compiled_rules_are_read_grapheme_by_grapheme() {
    // A trie with the rules `a` → `bc` and `e` → nothing.
    let mut units = vec![0u32; 512];
    units[0] = 256 << 10;
    for (key, value) in [(b'a', 0u32), (b'e', 2)] {
        let child = 256 ^ usize::from(key);
        units[child] = 1 << 10 | 1 << 8 | u32::from(key);
        units[child ^ 1] = 1 << 31 | value;
    }
    let mut charsmap = (units.len() as u32 * 4).to_le_bytes().to_vec();
    charsmap.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    charsmap.extend(b"bc\0");
    let rules = Normalizer::Precompiled(Precompiled::new(charsmap, "f").unwrap());
    let normalized = |text: &str| {
        let mut aligned = AlignedText::new(text, 0).unwrap();
        rules.normalize(&mut aligned);
        assert_eq!(rules.normalize_str(text), aligned.text());
        let places = aligned.text().char_indices();
        let ranges =
            places.map(|(at, c)| characters(text, aligned.original_range(at..at + c.len_utf8()).unwrap()));
        (aligned.text().to_owned(), ranges.collect::<Vec<_>>())
    };
    assert_eq!(normalized("xay"), ("xbcy".into(), vec![(0, 1), (1, 2), (1, 2), (2, 3)]));
    // The accent belongs to the grapheme that the rule replaces.
    assert_eq!(normalized("a\u{301}y"), ("bcy".into(), vec![(0, 1), (1, 2), (2, 3)]));
    // A grapheme of six bytes is taken character by character.
    assert_eq!(normalized("a\u{301}\u{301}\u{301}").0, "bc\u{301}\u{301}\u{301}");
    assert_eq!(normalized("xe"), ("x".into(), vec![(0, 1)]));
}

#[test]
fn decoders_do_what_those_of_the_library_do() {
    let space = || Decoder::Replace { pattern: Pattern::String("▁".into()), content: " ".into() };
    let metaspace =
        |prepend_scheme| Decoder::Metaspace(Metaspace { replacement: '▁', prepend_scheme, split: true });
    let llama = Decoder::Sequence(vec![
        space(),
        Decoder::ByteFallback,
        Decoder::Fuse,
        Decoder::Strip { content: ' ', start: 1, stop: 0 },
    ]);
    let always = Decoder::Sequence(vec![Decoder::ByteFallback, metaspace(PrependScheme::Always)]);
    let never = Decoder::Sequence(vec![Decoder::ByteFallback, metaspace(PrependScheme::Never)]);
    // Measured with tokenizers 0.23.3.
    for (tokens, expected) in [
        (&["▁Hello", "▁world"][..], ["Hello world", "Hello world", " Hello world"]),
        (&["▁▁a", "<0xE2>", "<0x82>", "<0xAC>", "x"], [" a€x", "a€x", "  a€x"]),
        (&["<0xE2>", "<0x82>", "<0xAC>", "<0xFF>", "▁b"], ["\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD} b"; 3]),
        (&["<0x20>", "▁"], [" ", "  ", "  "]),
        (&["<0xe2>", "<0x+1>"], ["\u{FFFD}\u{FFFD}"; 3]),
        (&[], [""; 3]),
    ] {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        let decoded = [&llama, &always, &never].map(|decoder| decoder.decode(tokens.clone()));
        assert_eq!(decoded, expected, "{tokens:?}");
    }
    let strip = Decoder::Strip { content: 'a', start: 2, stop: 1 };
    assert_eq!(strip.decode(vec!["aaab".into(), "aaa".into(), "a".into(), "é".into()]), "abé");
}
