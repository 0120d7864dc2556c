//! Files that are often taken for a model, told by their first bytes so that an error can name them.

use crate::Error;

/// What the file seems to be instead of a model, as an error; `None` if it looks like nothing known.
pub(super) fn recognize(data: &[u8]) -> Option<Error> {
    let damaged = |message: &str| Some(Error::model_format("file", message));
    let unsupported = |message: &str| Some(Error::unsupported("file", message));
    let text = text(data);
    if text.starts_with(b"version https://git-lfs.github.com/spec/") {
        return damaged(
            "this is a Git LFS pointer, not the model itself\nhint: run `git lfs pull`, or download the file again",
        );
    }
    if [&b"<!doctype"[..], b"<html", b"<head", b"<?xml"]
        .iter()
        .any(|tag| starts_with_ignoring_case(text, tag))
    {
        return damaged(
            "this is a web page (HTML), not a model\nhint: the download may have led to a log-in or error page",
        );
    }
    if is_json(data) {
        return unsupported(
            "this is a JSON file; a `tokenizer.json` states a pipeline of its own, and is not read as a model\n\
             hint: `JsonTokenizer` reads it; here, use the `tokenizer.model` or GGUF file of the same model",
        );
    }
    if is_tiktoken(data) {
        return unsupported(
            "this is a tiktoken vocabulary (as of Llama 3); only SentencePiece and GGUF models are supported",
        );
    }
    if data.starts_with(b"PK\x03\x04") {
        return damaged("this is a ZIP archive (perhaps PyTorch weights), not a tokenizer model");
    }
    if data.starts_with(b"\x1f\x8b") || data.starts_with(b"\x28\xb5\x2f\xfd") {
        return damaged("this file is compressed; decompress it first");
    }
    if data.get(8..10) == Some(b"{\"") {
        return damaged("this is a safetensors file: weights, not a tokenizer model");
    }
    None
}

fn starts_with_ignoring_case(data: &[u8], prefix: &[u8]) -> bool {
    data.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The data without what may stand before a text.
fn text(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data).trim_ascii_start()
}

/// Whether the data begins as JSON does.
pub(super) fn is_json(data: &[u8]) -> bool {
    let text = text(data);
    let after = text.strip_prefix(b"{").or_else(|| text.strip_prefix(b"["));
    after
        .is_some_and(|rest| matches!(rest.trim_ascii_start().first(), None | Some(b'"' | b'}' | b'{' | b'[')))
}

/// A line of tiktoken: base64, a space, a rank.
fn is_tiktoken(data: &[u8]) -> bool {
    let Some(line) = data.split(|&byte| byte == b'\n').next().filter(|line| line.len() < 1024) else {
        return false;
    };
    let mut parts = line.trim_ascii_end().split(|&byte| byte == b' ');
    let (Some(word), Some(rank), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    word.len() >= 4
        && word.len() % 4 == 0
        && word.iter().all(is_base64)
        && !rank.is_empty()
        && rank.iter().all(u8::is_ascii_digit)
}
