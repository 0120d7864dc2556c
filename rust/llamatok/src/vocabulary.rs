//! Pieces, their kinds and scores, and the maps between ids and pieces.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// A token id: the position of a piece in its vocabulary.
pub type TokenId = u32;

/// The space symbol of SentencePiece, `▁` (U+2581).
pub const SPACE_SYMBOL: &str = "\u{2581}";

/// The piece that SentencePiece leaves out of its maps; see [`Vocabulary`].
const NULL_PIECE: &str = "\0";

/// The kinds of pieces, with the numbers that SentencePiece and GGUF give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PieceKind {
    /// An ordinary piece, the product of merges.
    Normal = 1,
    /// The unknown piece; exactly one.
    Unknown = 2,
    /// A control piece such as `<s>`; never the result of text.
    Control = 3,
    /// A symbol that is cut out of text before merging and never merges.
    UserDefined = 4,
    /// A piece that takes part in merging but is taken apart again afterwards.
    Unused = 5,
    /// One of the 256 byte pieces, `<0x00>` to `<0xFF>`.
    Byte = 6,
}

impl PieceKind {
    /// The kind with the given number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// The name of the kind in SentencePiece's model format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Unknown => "UNKNOWN",
            Self::Control => "CONTROL",
            Self::UserDefined => "USER_DEFINED",
            Self::Unused => "UNUSED",
            Self::Byte => "BYTE",
        }
    }

    /// Whether text can contain the piece: normal, user-defined and unused pieces.
    pub fn is_mergeable(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }
}

/// One entry of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The piece as it stands in the model file (`▁` for a space, `<0x0A>` for a byte).
    pub text: String,
    /// The score: the higher, the earlier the piece is merged.
    pub score: f32,
    /// The kind.
    pub kind: PieceKind,
}

/// The pieces of a model, checked as SentencePiece checks them when it loads a model
/// (`ModelInterface::InitializePieces`, sentencepiece 0.2.3), and for finite scores besides.
///
/// The piece `"\0"` is special, as it is there: some converters write it next to `<0x00>`. With
/// byte fallback it counts as unused, and an unused `"\0"` keeps its id, but is not found by name
/// and may repeat.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    pieces: Vec<Piece>,
    ids: HashMap<String, TokenId>,
    unk_id: TokenId,
    bytes: Option<Box<[TokenId; 256]>>,
}

impl Vocabulary {
    /// Checks `pieces` and builds the maps. `byte_fallback` says whether the model turns unknown
    /// characters into byte pieces.
    ///
    /// # Errors
    /// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat), naming the piece: an empty or
    /// doubled piece, one with a NUL character in it, a score that is not a finite number, no
    /// unknown piece or several, byte pieces without byte fallback, ill-named ones, or fewer than
    /// 256 with it.
    pub fn new(mut pieces: Vec<Piece>, byte_fallback: bool) -> Result<Self> {
        let mut ids = HashMap::with_capacity(pieces.len().min(MAX_PIECES));
        let mut unk_id = None;
        let mut bytes: [Option<TokenId>; 256] = [None; 256];
        if pieces.len() > MAX_PIECES {
            return Err(Error::model_format(
                "pieces",
                format!("{} pieces, more than the limit of {MAX_PIECES}", pieces.len()),
            ));
        }
        for (index, piece) in pieces.iter_mut().enumerate() {
            let id = index as TokenId;
            let fault = |message: String| Err(Error::model_format(format!("pieces[{index}]"), message));
            if piece.text.is_empty() {
                return fault("the piece is empty".into());
            }
            if piece.text.len() > MAX_PIECE_BYTES {
                return fault(format!(
                    "the piece has {} bytes, more than the limit of {MAX_PIECE_BYTES}",
                    piece.text.len()
                ));
            }
            if !piece.score.is_finite() {
                return fault(format!(
                    "the score of {:?} is {}, not a finite number",
                    piece.text, piece.score
                ));
            }
            if piece.text == NULL_PIECE && byte_fallback {
                piece.kind = PieceKind::Unused;
            }
            if piece.text == NULL_PIECE && piece.kind == PieceKind::Unused {
                continue;
            }
            if piece.text.contains('\0') {
                return fault(format!("the piece {:?} contains a NUL character", piece.text));
            }
            if let Some(first) = ids.insert(piece.text.clone(), id) {
                return fault(format!("the piece {:?} is already defined, by id {first}", piece.text));
            }
            match piece.kind {
                PieceKind::Unknown => {
                    if let Some(first) = unk_id.replace(id) {
                        return fault(format!("a second unknown piece; the first is id {first}"));
                    }
                }
                PieceKind::Byte => {
                    if !byte_fallback {
                        return fault(format!(
                            "the byte piece {:?}, although byte_fallback is off",
                            piece.text
                        ));
                    }
                    let Some(byte) = parse_byte_piece(&piece.text) else {
                        return fault(format!(
                            "{:?} is no byte piece: it should be <0x00> to <0xFF>",
                            piece.text
                        ));
                    };
                    bytes[usize::from(byte)] = Some(id);
                }
                _ => {}
            }
        }
        let Some(unk_id) = unk_id else {
            return Err(Error::model_format("pieces", "no piece of kind UNKNOWN"));
        };
        let bytes = if byte_fallback {
            let mut byte_ids = Box::new([0; 256]);
            for (byte, id) in bytes.iter().enumerate() {
                let Some(id) = id else {
                    return Err(Error::model_format(
                        "pieces",
                        format!("byte_fallback is on, but the byte piece <0x{byte:02X}> is missing"),
                    ));
                };
                byte_ids[byte] = *id;
            }
            Some(byte_ids)
        } else {
            None
        };
        Ok(Self { pieces, ids, unk_id, bytes })
    }

    /// The number of pieces.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are no pieces; never true, since the unknown piece is required.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All pieces, in the order of their ids.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The piece with the id, if there is one.
    pub fn get(&self, id: TokenId) -> Option<&Piece> {
        self.pieces.get(id as usize)
    }

    /// The id of a piece of any kind.
    pub fn piece_to_id(&self, piece: &str) -> Option<TokenId> {
        self.ids.get(piece).copied()
    }

    /// The id of a normal, user-defined or unused piece.
    pub fn mergeable_id(&self, piece: &str) -> Option<TokenId> {
        self.piece_to_id(piece).filter(|&id| self.pieces[id as usize].kind.is_mergeable())
    }

    /// The id of the unknown piece.
    pub fn unk_id(&self) -> TokenId {
        self.unk_id
    }

    /// The ids of the 256 byte pieces, if the model falls back to bytes.
    pub fn byte_ids(&self) -> Option<&[TokenId; 256]> {
        self.bytes.as_deref()
    }
}

/// The most pieces that a vocabulary may have.
pub const MAX_PIECES: usize = 1 << 24;

/// The most bytes that one piece may have: SentencePiece 0.2.3 refuses pieces of 8,000 bytes and more.
pub const MAX_PIECE_BYTES: usize = 7_999;

/// The byte that a byte piece (`<0x00>` to `<0xFF>`, upper-case hexadecimal) stands for.
pub fn parse_byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper_hex = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    if digits.len() != 2 || !digits.chars().all(upper_hex) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32, kind: PieceKind) -> Piece {
        Piece { text: text.into(), score, kind }
    }

    fn fault(pieces: Vec<Piece>, byte_fallback: bool) -> String {
        Vocabulary::new(pieces, byte_fallback).unwrap_err().to_string()
    }

    #[test]
    fn byte_pieces_are_upper_case_hexadecimal() {
        assert_eq!(parse_byte_piece("<0x0A>"), Some(10));
        assert_eq!(parse_byte_piece("<0xFF>"), Some(255));
        for bad in ["<0x0a>", "<0xA>", "<0x0A", "0x0A>", "<0x+1>", "<0x100>"] {
            assert_eq!(parse_byte_piece(bad), None, "{bad}");
        }
    }

    #[test]
    fn reserved_pieces_are_not_mergeable() {
        let vocabulary = Vocabulary::new(
            vec![
                piece("<unk>", 0.0, PieceKind::Unknown),
                piece("a", 0.0, PieceKind::Normal),
                piece("<s>", 0.0, PieceKind::Control),
            ],
            false,
        )
        .unwrap();
        assert_eq!(vocabulary.piece_to_id("<s>"), Some(2));
        assert_eq!(vocabulary.mergeable_id("<s>"), None);
        assert_eq!(vocabulary.mergeable_id("a"), Some(1));
        assert_eq!(vocabulary.piece_to_id("b"), None);
    }

    #[test]
    fn null_pieces_keep_their_ids_but_are_not_found() {
        let unused = || piece("\0", 0.0, PieceKind::Unused);
        let unk = || piece("<unk>", 0.0, PieceKind::Unknown);
        let vocabulary = Vocabulary::new(vec![unused(), unk(), unused()], false).unwrap();
        assert_eq!((vocabulary.len(), vocabulary.unk_id()), (3, 1));
        assert_eq!(vocabulary.piece_to_id("\0"), None);
        assert_eq!(vocabulary.get(2), Some(&unused()));

        let normal = || piece("\0", 0.0, PieceKind::Normal);
        assert!(fault(vec![unk(), normal()], false).contains("NUL"));
        assert!(fault(vec![unk(), piece("a\0", 0.0, PieceKind::Unused)], false).contains("NUL"));
        let bytes = (0..=255).map(|byte: u8| piece(&format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte));
        let vocabulary = Vocabulary::new([unk(), normal()].into_iter().chain(bytes).collect(), true).unwrap();
        assert_eq!(vocabulary.get(1), Some(&unused()));
    }

    #[test]
    fn faults_are_named() {
        let unk = || piece("<unk>", 0.0, PieceKind::Unknown);
        assert!(fault(vec![], false).contains("UNKNOWN"));
        assert!(fault(vec![unk(), piece("", 0.0, PieceKind::Normal)], false).starts_with("pieces[1]: "));
        assert!(fault(vec![unk(), unk()], false).contains("already defined"));
        assert!(fault(vec![unk(), piece("a", f32::NAN, PieceKind::Normal)], false).contains("NaN"));
        assert!(
            fault(vec![unk(), piece("<0x00>", 0.0, PieceKind::Byte)], false).contains("byte_fallback is off")
        );
        assert!(fault(vec![unk(), piece("<0x00>", 0.0, PieceKind::Byte)], true).contains("<0x01> is missing"));
        assert!(fault(vec![unk(), piece("<0xZZ>", 0.0, PieceKind::Byte)], true).contains("no byte piece"));
    }
}
