"""The shared oracles: outputs of the reference libraries, written down, as cases for `compat.cases`."""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from compat.cases import Case
from support import locations

MODEL_FILES = {"llama2": ("models", "llama2"), "mistral_v1": ("models", "mistral-v1")}
SOURCES = (
    "transformers-4.37.2-slow",
    "transformers-4.37.2-fast",
    "transformers-4.57.6-slow",
    "transformers-4.57.6-fast",
    "transformers-5.23.0",
)

#: Options of a case that go to the constructor, and those that go to the call.
INIT = {
    "legacy", "add_prefix_space", "add_bos_token", "add_eos_token", "padding_side", "truncation_side",
    "use_default_system_prompt", "sp_model_kwargs",
}  # fmt: skip
CALL = {
    "skip_special_tokens", "spaces_between_special_tokens", "clean_up_tokenization_spaces",
    "add_special_tokens", "split_special_tokens", "already_has_special_tokens", "is_split_into_words",
    "filename_prefix",
}  # fmt: skip
OTHER = {"load", "class", "add_tokens", "pad_token", "init_split_special_tokens", "call"}
RENAMED = {
    "call_batch": "call",
    "encode_words": "encode",
    "convert_tokens_to_string": "ids_to_string",
}


@functools.cache
def cases(source: str) -> list[dict[str, Any]]:
    """All cases of a source, as they stand in its file."""
    path = locations.shared_file("oracles", f"{source}.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def model_file(name: str) -> Path:
    """The `tokenizer.model` of a model."""
    return locations.shared_file(*MODEL_FILES[name], "tokenizer.model")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="oracles-")


@functools.cache
def saved_folder(stem: str) -> Path:
    """A folder with the files that transformers 4.57 saved: tokenizer.json, and the two beside it."""
    folder = Path(_folder().name, stem)
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        packed = locations.shared_file("oracles", f"{stem}.{name}.gz")
        (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def call(case: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the operation."""
    options = case["options"]
    unknown = set(options) - INIT - CALL - OTHER
    assert not unknown, f"options {unknown} are passed over"
    return {**{key: options[key] for key in CALL & set(options)}, **options.get("call", {})}


def init(case: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the constructor."""
    options = case["options"]
    found = {key: options[key] for key in INIT & set(options)}
    if "init_split_special_tokens" in options:
        found["split_special_tokens"] = options["init_split_special_tokens"]
    return found


def as_case(case: dict[str, Any], kind: str, path: Path, arguments: dict[str, Any]) -> Case:
    """The case for a tokenizer of class `kind`, made of `path` with `arguments`."""
    options = case["options"]
    spec: dict[str, Any] = {"class": kind, "path": str(path), "init": arguments}
    if case["op"] == "meta" and case["tag"] == "added":
        operation, value, keywords = "add_tokens", options["add_tokens"], {}
    else:
        if "add_tokens" in options:
            spec["add_tokens"] = [options["add_tokens"]]
        operation, value, keywords = RENAMED.get(case["op"], case["op"]), case["input"], call(case)
    if "pad_token" in options:
        spec["pad_token"] = options["pad_token"]
    return {"tokenizer": spec, "op": operation, "input": value, "call": keywords}


def for_its_library(case: dict[str, Any]) -> Case:
    """The case as the library it was written down from answers it: the proof of the harness."""
    source, options = case["source"], case["options"]
    loaded = options.get("load", "tokenizer.model")
    kind = "slow" if source.endswith("slow") else "fast"
    if options.get("class"):
        kind = "generic" if options["class"] == "PreTrainedTokenizerFast" else "slow"
    if loaded == "tokenizer.model":
        path = model_file(case["model"])
        # Made by its constructor, the fast class of 4.57 takes an `add_prefix_space` that is not given for
        # False; by `from_pretrained`, for True.
        if source.startswith("transformers-5") or source == "transformers-4.57.6-fast":
            path = path.parent
    else:
        path = saved_folder(loaded.removesuffix(".tokenizer.json"))
    return as_case(case, kind, path, init(case))


def of_interest(case: dict[str, Any], answer: Any) -> Any:
    """The part of an answer that the file has written down."""
    if case["op"] == "meta" and isinstance(answer, dict):
        return {key: value for key, value in answer.items() if key in case["expected"]}
    if case["op"] == "tokenize" and isinstance(answer, dict) and "error" in answer:
        return {"error": answer["error"]}
    return answer


def same(case: dict[str, Any], answer: Any) -> bool:
    """Whether an answer is the expected one; of errors, only the type counts."""
    expected = case["expected"]
    if isinstance(expected, dict) and "error" in expected:
        return isinstance(answer, dict) and answer.get("error") == expected["error"]
    return bool(of_interest(case, answer) == expected)
