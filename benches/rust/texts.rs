//! The texts that are measured: made from a fixed seed, so that every run and machine has the same.

use std::path::{Path, PathBuf};

/// The embedded vocabulary, or the one that `LLAMATOK_BENCH_MODEL` names.
pub fn model() -> llamatok::Model {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/llamatok/data/default.model");
    let path = std::env::var_os("LLAMATOK_BENCH_MODEL").map_or(embedded, PathBuf::from);
    llamatok::load::from_file(path).expect("a vocabulary")
}

/// `len` bytes of the file that `LLAMATOK_BENCH_TEXT` names (as many as it has), or of made-up prose.
pub fn prose(len: usize) -> Vec<u8> {
    match std::env::var_os("LLAMATOK_BENCH_TEXT") {
        Some(path) => {
            let mut text = std::fs::read(path).expect("a text");
            text.truncate(len);
            text
        }
        None => made_up_prose(len),
    }
}

/// Words from a stock of 400,000, one as often as the inverse of its place in the stock, as in a
/// language, with the punctuation and line ends of prose.
fn made_up_prose(len: usize) -> Vec<u8> {
    const STOCK: f64 = 400_000.0;
    let mut chance = Chance(1);
    let mut text = Vec::with_capacity(len + 64);
    while text.len() < len {
        // The logarithm of the place is uniform, so a place is as likely as its inverse.
        let place = STOCK.powf(chance.fraction()) as u64;
        append_word(&mut Chance(place), &mut text);
        text.extend_from_slice(match chance.below(40) {
            0 | 1 => b". ",
            2..=4 => b", ",
            5 => b".\n\n",
            _ => b" ",
        });
    }
    text.truncate(len);
    text
}

/// Words that hardly ever come twice.
pub fn unique_words(len: usize) -> Vec<u8> {
    let mut chance = Chance(2);
    let mut text = Vec::with_capacity(len + 64);
    while text.len() < len {
        append_word(&mut chance, &mut text);
        append_word(&mut chance, &mut text);
        text.push(b' ');
    }
    text.truncate(len);
    text
}

/// One word of random letters.
pub fn long_word(len: usize) -> Vec<u8> {
    let mut chance = Chance(3);
    (0..len).map(|_| b'a' + chance.below(26) as u8).collect()
}

/// Runs of 1 to 199 spaces, a letter after each.
pub fn runs_of_spaces(len: usize) -> Vec<u8> {
    let mut chance = Chance(4);
    let mut text = Vec::with_capacity(len + 200);
    while text.len() < len {
        text.resize(text.len() + 1 + chance.below(199) as usize, b' ');
        text.push(b'a');
    }
    text.truncate(len);
    text
}

/// A word of one to five syllables.
fn append_word(chance: &mut Chance, text: &mut Vec<u8>) {
    for _ in 0..=chance.below(4) {
        text.push(b"bcdfghjklmnprstvz"[chance.below(17) as usize]);
        text.push(b"aeiou"[chance.below(5) as usize]);
        if chance.below(3) == 0 {
            text.push(b"lnrst"[chance.below(5) as usize]);
        }
    }
}

/// Numbers that look random (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number less than `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
