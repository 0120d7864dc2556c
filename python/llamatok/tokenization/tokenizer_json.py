"""The text of a `tokenizer.json`: made from a vocabulary with merges, and with another prefix space."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_SPACE = "\u2581"


def made(
    vocab: str | dict[str, int] | Sequence[Any],
    merges: str | Iterable[str | Sequence[str]] | None,
    *,
    legacy: bool,
    add_prefix_space: bool,
) -> bytes:
    """The `tokenizer.json` of a vocabulary with merges: the pipeline of transformers 5's `LlamaTokenizer`.

    Its model has no unknown token: without byte tokens, unknown characters are left out.

    Args:
        vocab: Ids by token, tokens in the order of their ids (alone or with a score each), or the path of a
            JSON file of these.
        merges: Pairs of tokens, the first ones first, as two strings or as one with a space between; or the
            path of a text file with a pair on each line.
        legacy: Whether each chunk of text gets a prefix space, or the first one only.
        add_prefix_space: Whether there is a prefix space at all.

    Raises:
        ValueError: What is given is of another form.
    """
    if isinstance(vocab, str):
        vocab = json.loads(Path(vocab).read_text(encoding="utf-8"))
    if not isinstance(vocab, dict):
        tokens = [token if isinstance(token, str) else token[0] for token in vocab]
        vocab = {token: id for id, token in enumerate(tokens)}
    if isinstance(merges, str):
        lines = Path(merges).read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line and not line.startswith("#version")]
    scheme = ("always" if legacy else "first") if add_prefix_space else "never"
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if add_prefix_space:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _bytes(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": _metaspace(scheme),
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": steps},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": [_merge(pair) for pair in merges or []],
            },
        }
    )


def _merge(pair: str | Sequence[str]) -> list[str]:
    parts = pair.split(" ") if isinstance(pair, str) else list(pair)
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"a merge must be two tokens, not {pair!r}")
    return parts


def _metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": False}


def _bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def says_legacy(data: bytes) -> bool:
    """Whether the file puts a prefix before every chunk of text, as the legacy behaviour does."""
    # Only ever an answer for people and for `legacy` in saved files; the pipeline follows the file itself.
    head, _, _ = data.partition(b'"vocab"')
    return b'"Prepend"' in head or b'"always"' in head


def with_prefix_space(data: bytes, add_prefix_space: bool, legacy: bool) -> bytes:
    """The file with the prefix space as transformers 4.57's converter makes it, where it is otherwise.

    Without one, `Prepend` leaves the normalizer, a Metaspace prepends never, and the decoder strips nothing
    (`LlamaConverter` of transformers 4.57).
    """
    content: dict[str, Any] = json.loads(data)
    normalizer = _steps(content.get("normalizer"), "normalizers")
    pre_tokenizer: dict[str, Any] = content.get("pre_tokenizer") or {}
    metaspace = pre_tokenizer if pre_tokenizer.get("type") == "Metaspace" else None
    has_prefix = any(step.get("type") == "Prepend" for step in normalizer) or (
        metaspace is not None and metaspace.get("prepend_scheme", "always") != "never"
    )
    if has_prefix == add_prefix_space:
        return data
    decoder = _steps(content.get("decoder"), "decoders")
    if add_prefix_space:
        decoder.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        if metaspace is None:
            normalizer.insert(0, {"type": "Prepend", "prepend": _SPACE})
    else:
        decoder = [step for step in decoder if step.get("type") != "Strip"]
        normalizer = [step for step in normalizer if step.get("type") != "Prepend"]
    if metaspace is not None:
        metaspace.pop("add_prefix_space", None)
        metaspace["prepend_scheme"] = ("always" if legacy else "first") if add_prefix_space else "never"
    content["normalizer"] = {"type": "Sequence", "normalizers": normalizer} if normalizer else None
    content["decoder"] = {"type": "Sequence", "decoders": decoder} if decoder else None
    return _bytes(content)


def _steps(component: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    if component.get("type") == "Sequence":
        return list(component[inner])
    return [component]


def for_all_versions(data: bytes) -> dict[str, Any]:
    """A `tokenizer.json` in the spelling that old versions of the tokenizers library read, and new ones.

    Versions before 0.20 know merges as texts with a space only, and a Metaspace with `add_prefix_space` only.
    """
    content: dict[str, Any] = json.loads(data)
    model = content["model"]
    merges = [_merge(pair) for pair in model["merges"]]
    # Pairs whose tokens have spaces can be said in the newer way alone.
    if not any(" " in left or " " in right for left, right in merges):
        model["merges"] = [f"{left} {right}" for left, right in merges]
    pre_tokenizer = content.get("pre_tokenizer")
    for step in _steps(pre_tokenizer, "pretokenizers"):
        if step.get("type") == "Metaspace":
            step["add_prefix_space"] = step.get("prepend_scheme") != "never"
    return content


def is_nonlegacy_llama(content: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` has the very pipeline that transformers 5's `LlamaTokenizer` makes anew.

    That is the one of `made` with `legacy=False`.
    """
    pre_tokenizer = content.get("pre_tokenizer") or {}
    decoder = [step.get("type") for step in _steps(content.get("decoder"), "decoders")]
    scheme = pre_tokenizer.get("prepend_scheme")
    return (
        content.get("normalizer") is None
        and pre_tokenizer.get("type") == "Metaspace"
        and pre_tokenizer.get("split") is False
        and (scheme, decoder)
        in (
            ("first", ["Replace", "ByteFallback", "Fuse", "Strip"]),
            ("never", ["Replace", "ByteFallback", "Fuse"]),
        )
    )
