//! The frame of a compiled normalization table, checked when a model is loaded.

use crate::{Error, Result};

/// A double-array trie is stored in blocks of 256 units of 4 bytes.
const TRIE_BLOCK_BYTES: usize = 1024;

/// Checks the frame of a table, as SentencePiece does before it looks inside: the size of the trie
/// (u32, little-endian), the trie, then replacement texts, each ended by a NUL.
///
/// # Errors
/// [`ErrorKind::ModelFormat`](crate::ErrorKind::ModelFormat) naming `field`.
pub(super) fn check_frame(charsmap: &[u8], field: &str) -> Result<()> {
    if charsmap.is_empty() {
        return Ok(());
    }
    let fault = |message: String| Err(Error::model_format(field, message));
    let Some((size, rest)) = charsmap.split_first_chunk::<4>() else {
        return fault(format!("{} bytes, too few for the size of its trie", charsmap.len()));
    };
    // A size beyond the address space is beyond the table, too.
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
    if size >= rest.len() {
        return fault(format!("a trie of {size} bytes does not fit the {} bytes that follow", rest.len()));
    }
    if size == 0 || size % TRIE_BLOCK_BYTES != 0 {
        return fault(format!("a trie of {size} bytes; it should be a multiple of {TRIE_BLOCK_BYTES}"));
    }
    if rest.last() != Some(&0) {
        return fault("the replacement texts do not end with a NUL".into());
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table whose trie is empty.
    pub(in crate::load) fn frame(trie_bytes: usize, texts: &[u8]) -> Vec<u8> {
        let mut charsmap = u32::try_from(trie_bytes).unwrap().to_le_bytes().to_vec();
        charsmap.resize(4 + trie_bytes, 0);
        charsmap.extend_from_slice(texts);
        charsmap
    }

    #[test]
    fn frames_are_checked() {
        let fault = |charsmap: &[u8]| check_frame(charsmap, "f").unwrap_err().to_string();
        assert!(check_frame(b"", "f").is_ok());
        assert!(check_frame(&frame(1024, b"\0"), "f").is_ok());
        assert!(check_frame(&frame(2048, b"abc\0d\0"), "f").is_ok());
        assert_eq!(fault(b"abc"), "f: 3 bytes, too few for the size of its trie");
        assert!(fault(&frame(1024, b"")).contains("does not fit the 1024 bytes"));
        assert!(fault(b"\xff\xff\xff\xff").contains("does not fit"));
        assert!(fault(&frame(1028, b"\0")).contains("multiple of 1024"));
        assert!(fault(&frame(0, b"\0")).contains("multiple of 1024"));
        assert!(fault(&frame(1024, b"\0a")).contains("NUL"));
    }
}
