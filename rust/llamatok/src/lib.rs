//! Exact, fast byte-fallback SentencePiece BPE tokenization for the Llama family.

#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

mod batch;
mod bpe;
mod decode;
mod error;
pub mod load;
mod model;
mod normalize;
mod special;
mod tokenizer;
pub mod vocabulary;

pub use batch::{TextBatch, TokenBatch};
pub use decode::StreamDecoder;
pub use error::{Error, ErrorKind, Result};
pub use model::{Model, ModelFormat, NormalizerSettings};
pub use tokenizer::{CacheInfo, EncodeOptions, Text, Tokenizer};
pub use vocabulary::{Piece, PieceKind, TokenId, Vocabulary};
