"""The shared oracles: outputs of the reference libraries, written down, as cases for `compat.cases`."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
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


def saved_folder(stem: str, model: str | None = None) -> Path:
    """A folder with the files that transformers 4.57 saved: tokenizer.json, and the two beside it; with the
    `tokenizer.model` of `model` too, if one is named."""
    return _saved_folder(stem, model)


@functools.cache
def _saved_folder(stem: str, model: str | None) -> Path:
    folder = Path(_folder().name, f"{stem}-{model}")
    folder.mkdir()
    if model is not None:
        shutil.copyfile(model_file(model), folder / "tokenizer.model")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        packed = locations.shared_file("oracles", f"{stem.removesuffix('-noprefix')}.{name}.gz")
        content = json.loads(gzip.decompress(packed.read_bytes()))
        if stem.endswith("-noprefix"):
            _without_prefix(name, content)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def _without_prefix(name: str, content: dict[str, Any]) -> None:
    """Change a file to what is saved for `add_prefix_space=False`; not every model's was written down."""
    if name == "tokenizer_config.json":
        content["add_prefix_space"] = False
    if name != "tokenizer.json":
        return
    if content["normalizer"] is None:
        content["pre_tokenizer"]["prepend_scheme"] = "never"
    else:
        del content["normalizer"]["normalizers"][0]
    del content["decoder"]["decoders"][-1]


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
    return answer


def same(case: dict[str, Any], answer: Any) -> bool:
    """Whether an answer is the expected one; of errors, only the type counts."""
    expected = case["expected"]
    if isinstance(expected, dict) and "error" in expected:
        return isinstance(answer, dict) and answer.get("error") == expected["error"]
    return bool(of_interest(case, answer) == expected)


def for_us(case: dict[str, Any]) -> Case:
    """The case as our tokenizer answers it, loaded from the file that decides (`tokenizer.model` or
    `tokenizer.json`)."""
    source, options = case["source"], case["options"]
    arguments = init(case)
    if source.endswith("slow") or (
        source.startswith("transformers-5") and options["load"] == "tokenizer.model"
    ):
        return as_case(case, "ours", model_file(case["model"]), arguments)
    if options["load"] != "tokenizer.model":
        stem = options["load"].removesuffix(".tokenizer.json")
    else:
        # The files that transformers 4.57 makes of the model; 4.37 knows the legacy one alone.
        legacy = arguments.get("legacy", True) or "4.37" in source
        stem = f"{case['model']}-{'legacy' if legacy else 'nonlegacy'}"
        if arguments.get("add_prefix_space") is False:
            stem += "-noprefix"
    arguments.pop("legacy", None)
    arguments.pop("add_prefix_space", None)
    # What is saved, and can be, depends on whether the model's file is there.
    beside = case["model"] if case["op"] in ("meta", "save_pretrained") and "5.23" not in source else None
    return as_case(case, "ours", saved_folder(stem, beside), arguments)


def key(case: dict[str, Any]) -> str:
    """What a case asks, whichever library and file answers it."""
    how = {"load", "class", "legacy", "add_prefix_space"}
    options = {name: value for name, value in case["options"].items() if name not in how}
    return json.dumps([case["model"], case["op"], case["input"], options], sort_keys=True)


@functools.cache
def answers(source: str, legacy: bool, prefix: bool = True) -> dict[str, Any]:
    """What a source says to each key, of the cases with these settings."""
    return {
        key(case): case["expected"]
        for case in cases(source)
        if case["options"].get("legacy", True) == legacy
        and case["options"].get("add_prefix_space", True) == prefix
    }
