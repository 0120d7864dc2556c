"""Tokenizer folders of strangers: each fault of the JSON files is a ValueError that names file or field."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import llamatok
from llamatok import _limited
from llamatok.tokenization import configured, loading
from support import llama_files

DEEP = "[" * 100_000 + "]" * 100_000
TOKENS = [5, ["a"], True, {"content": 5}, "\ud800", "x" * (configured.MAX_TOKEN_BYTES + 1)]
IDS = ["x", "-1", "2147483648", "9" * 10_000, "\u0663", "1.0", ""]

FAULTS: list[tuple[str, Any]] = [
    *(
        ("tokenizer_config.json", text)
        for text in ("[]", "null", "", "{", f'{{"a": {DEEP}}}', '{"a": 1' + "0" * 9999 + "}")
    ),
    *(("tokenizer_config.json", {"bos_token": token}) for token in TOKENS if not isinstance(token, dict)),
    ("tokenizer_config.json", {"bos_token": {"__type": "AddedToken", "content": 5}}),
    *(("tokenizer_config.json", {"added_tokens_decoder": {"5": token}}) for token in TOKENS),
    *(("tokenizer_config.json", {"added_tokens_decoder": {id: "a"}}) for id in IDS),
    ("tokenizer_config.json", {"added_tokens_decoder": []}),
    ("tokenizer_config.json", {"additional_special_tokens": 5}),
    ("tokenizer_config.json", {"additional_special_tokens": [5]}),
    ("tokenizer_config.json", {"extra_special_tokens": {"encode": "x"}}),
    ("tokenizer_config.json", {"extra_special_tokens": {"__class__": "x"}}),
    ("tokenizer_config.json", {"extra_special_tokens": {"a_token": 5}}),
    *(
        ("tokenizer_config.json", {"chat_template": value})
        for value in (5, [1], [{"name": 1}], {"a": 1}, [{"name": "a", "template": 3}])
    ),
    *(("tokenizer_config.json", {"model_max_length": value}) for value in ("x", [1], float("nan"), True)),
    *(
        ("tokenizer_config.json", {name: "x"})
        for name in ("legacy", "add_bos_token", "split_special_tokens", "padding_side")
    ),
    ("tokenizer_config.json", {"model_input_names": 3}),
    ("tokenizer_config.json", {"sp_model_kwargs": 3}),
    ("tokenizer_config.json", {"model_specific_special_tokens": {"a_token": TOKENS[-1]}}),
    ("tokenizer_config.json", {"model_specific_special_tokens": {"a_token": 5}}),
    ("tokenizer_config.json", {"tokenizer_class": 5}),
    *(("special_tokens_map.json", {"bos_token": token}) for token in TOKENS),
    ("special_tokens_map.json", {"additional_special_tokens": [5]}),
    ("special_tokens_map.json", {"additional_special_tokens": [{"content": 5}]}),
    ("special_tokens_map.json", {"additional_special_tokens": [None]}),
    ("special_tokens_map.json", f'{{"a": {DEEP}}}'),
    *(("added_tokens.json", {"a": id}) for id in (None, -5, 1e30, 10**30, [1], 2**31, True, "x")),
    ("added_tokens.json", {"\ud800": 40_000}),
    ("chat_template.json", {"chat_template": 5}),
    ("chat_template.jinja", b"\xff\xfe"),
    ("chat_template.jinja", "x" * (configured.MAX_TEMPLATE_BYTES + 1)),
]


def _folder(root: Path, kind: str, file: str, content: Any) -> Path:
    if kind == "json":
        shutil.copy(Path(llama_files.json_folder(legacy=True)) / "tokenizer.json", root)
    else:
        shutil.copy(llama_files.model_file(), root / "tokenizer.model")
    data = content if isinstance(content, (str, bytes)) else json.dumps(content)
    (root / file).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return root


@pytest.mark.parametrize("kind", ["json", "model"])
@pytest.mark.parametrize("index", range(len(FAULTS)))
def test_faults_are_named(index: int, kind: str, tmp_path: Path) -> None:
    """Nothing is loaded, the error says where to look, and nothing is written."""
    file, content = FAULTS[index]
    folder = _folder(tmp_path, kind, file, content)
    before = sorted(os.listdir(folder))
    with pytest.raises(ValueError, match=r"(?s)") as caught:
        llamatok.LlamaTokenizer.from_pretrained(str(folder))
    assert not isinstance(caught.value, UnicodeError)
    field = next(iter(content)) if isinstance(content, dict) and file != "added_tokens.json" else file
    assert field in str(caught.value) or "special token cannot have the name" in str(caught.value)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("kind", ["json", "model"])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("name", sorted(configured.NOT_FOR_FILES))
def test_files_cannot_name_other_files(name: str, file: str, kind: str, tmp_path: Path) -> None:
    """What the caller alone may say is not taken from a file: paths, seeds, sizes of caches."""
    plain = llamatok.LlamaTokenizer.from_pretrained(str(_folder(tmp_path, kind, file, {})))
    other = tmp_path / "other.model"
    other.write_bytes(b"no model")
    folder = _folder(tmp_path, kind, file, {name: str(other)})
    tokenizer = llamatok.LlamaTokenizer.from_pretrained(str(folder))
    assert tokenizer.encode("a b") == plain.encode("a b")
    assert tokenizer.name_or_path == str(folder)


def test_duplicate_keys_go_by_the_last(tmp_path: Path) -> None:
    """As for everybody who reads such a file by Python's reader."""
    folder = _folder(
        tmp_path, "json", "tokenizer_config.json", '{"padding_side": "left", "padding_side": "right"}'
    )
    assert llamatok.LlamaTokenizer.from_pretrained(str(folder)).padding_side == "right"


def test_the_largest_id_is_decoded(tmp_path: Path) -> None:
    """What is loaded can be decoded; larger ids are refused above."""
    content = {"added_tokens_decoder": {str(configured.MAX_ID): {"content": "zz"}}}
    tokenizer = llamatok.LlamaTokenizer.from_pretrained(
        str(_folder(tmp_path, "model", "tokenizer_config.json", content))
    )
    ids = tokenizer.encode("a zz", add_special_tokens=False)
    assert ids[-1] == configured.MAX_ID
    assert tokenizer.decode(ids).endswith("zz")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json", "chat_template.jinja"])
def test_files_without_end(file: str, tmp_path: Path) -> None:
    """A link to a device that never ends is no file, and is passed over."""
    if not os.path.exists("/dev/zero"):
        pytest.skip("there is no /dev/zero")
    shutil.copy(llama_files.model_file(), tmp_path / "tokenizer.model")
    (tmp_path / file).symlink_to("/dev/zero")
    llamatok.LlamaTokenizer.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"normalizer": "x"}', '{"normalizer": {"type": "Sequence"}}', '{"pre_tokenizer": 5}',
        '{"decoder": 5}', DEEP, '{"x": 1' + "0" * 9999 + "}", '{"version": "1.0", "version": "1.0"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", [True, False, None])
def test_a_prefix_space_is_asked_of_sound_files_only(text: str, prefix: bool | None, tmp_path: Path) -> None:
    """The core has read a `tokenizer.json` before anybody changes it."""
    shutil.copy(llama_files.model_file(), tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": prefix}))
    with pytest.raises(llamatok.ModelFormatError, match=r"tokenizer\.json"):
        llamatok.LlamaTokenizer.from_pretrained(str(tmp_path))


def test_json_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one byte more is refused for its size, and said to be nothing else."""
    monkeypatch.setattr(_limited, "MAX_JSON_BYTES", 100)
    for file in (
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
    ):
        folder = tmp_path / file
        folder.mkdir()
        _folder(folder, "model", file, "{" + " " * 98 + "}")
        llamatok.LlamaTokenizer.from_pretrained(str(folder), legacy=True)
        (folder / file).write_text("{" + " " * 99 + "}")
        with pytest.raises(ValueError, match=rf"^[^:]*{file}: more than the limit of 100 bytes"):
            llamatok.LlamaTokenizer.from_pretrained(str(folder), legacy=True)


def test_a_tokenizer_json_for_others_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is only to be told whether it is the one that was saved."""
    monkeypatch.setattr(loading, "MAX_MODEL_BYTES", 100)
    folder = _folder(tmp_path, "model", "tokenizer_config.json", {loading.SOURCE: {"file": "x"}})
    (folder / "tokenizer.json").write_bytes(bytes(101))
    with pytest.raises(ValueError, match=r"tokenizer\.json: more than the limit of 100 bytes"):
        llamatok.LlamaTokenizer.from_pretrained(str(folder))


def test_added_tokens_do_not_grow_without_measure(tmp_path: Path) -> None:
    """A small file whose normalizer would make gigabytes of its own added tokens."""
    folder = _folder(tmp_path, "json", "tokenizer_config.json", {})
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    token = {**content["added_tokens"][0], "normalized": True, "special": False}
    long = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 65_536}
    front = {"type": "Prepend", "prepend": "b" * (1 << 20)}
    for normalizer, added in (
        (long, [{**token, "id": 40_000, "content": "a" * 200_000}]),
        (front, [{**token, "id": 40_000 + index, "content": f"<{index}>"} for index in range(2_000)]),
    ):
        changed = {**content, "normalizer": normalizer, "added_tokens": added}
        (folder / "tokenizer.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(llamatok.UnsupportedModelError, match=r"added_tokens: normalized.*may become"):
            llamatok.LlamaTokenizer.from_pretrained(str(folder))


def test_a_gguf_file_is_not_read_whole(tmp_path: Path) -> None:
    """The tensors of a GGUF file are passed over, however large: here a terabyte of nothing."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "large.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([float(-index) for index in range(len(pieces))])
    writer.add_token_types([2, 3, 3, *[6] * 256, 1, 1, 1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert llamatok.LlamaTokenizer(str(path), legacy=True).tokenize("a b") == ["\u2581", "a", "\u2581", "b"]
