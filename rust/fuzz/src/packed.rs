//! A corpus in one file: each input with its length in front, 32 bits, little-endian.

use std::fs;
use std::io;
use std::path::Path;

/// The inputs in `data`.
///
/// # Panics
/// Where `data` ends within an input.
pub fn unpack(mut data: &[u8]) -> Vec<&[u8]> {
    let mut inputs = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk() {
        let (input, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        inputs.push(input);
        data = rest;
    }
    assert!(data.is_empty(), "the file ends within the length of an input");
    inputs
}

/// The files of a folder as one, the shortest first.
///
/// # Errors
/// Those of reading.
pub fn pack(folder: &Path) -> io::Result<Vec<u8>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    Ok(inputs.iter().flat_map(|input| [&(input.len() as u32).to_le_bytes(), &input[..]].concat()).collect())
}
