"""Saving and loading: which files, which of them is read, and that nothing is lost on the way."""

from __future__ import annotations

import json
import os
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from llamatok import AddedToken, LlamaTokenizer, ModelFormatError, UnsupportedModelError
from support.locations import DEFAULT_MODEL, shared_file

TEXTS = ["Hello world", " a", "a  b", "Hello <s>.", "<s> x", "été 🦙\n", "a<foo>b", "<bar> x", "<pad>", ""]


def made(**kwargs: Any) -> LlamaTokenizer:
    tokenizer = LlamaTokenizer(DEFAULT_MODEL, **{"legacy": True, **kwargs})
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<bar>"]})
    tokenizer.add_tokens(["<foo>", AddedToken("<baz>", lstrip=True)])
    return tokenizer


def ids(tokenizer: LlamaTokenizer) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in TEXTS]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("add_prefix_space", [None, False])
def test_round_trip_of_a_model(tmp_path: Path, legacy: bool, add_prefix_space: bool | None) -> None:
    tokenizer = made(
        legacy=legacy,
        add_prefix_space=add_prefix_space,
        add_eos_token=True,
        model_max_length=77,
        padding_side="left",
        truncation_side="left",
        clean_up_tokenization_spaces=True,
        use_default_system_prompt=True,
        sp_model_kwargs={"enable_sampling": False},
        chat_template="{{ 1 }}",
    )
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == DEFAULT_MODEL.read_bytes()
    again = LlamaTokenizer.from_pretrained(tmp_path)
    assert not again.is_fast
    assert ids(again) == ids(tokenizer)
    assert again.get_added_vocab() == tokenizer.get_added_vocab()
    assert again.special_tokens_map == tokenizer.special_tokens_map
    for name in (
        "legacy",
        "add_prefix_space",
        "add_bos_token",
        "add_eos_token",
        "model_max_length",
        "padding_side",
        "truncation_side",
        "clean_up_tokenization_spaces",
        "use_default_system_prompt",
        "sp_model_kwargs",
        "chat_template",
        "model_input_names",
        "all_special_ids",
    ):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert again.name_or_path == str(tmp_path)


@pytest.mark.parametrize("legacy", [True, False])
def test_round_trip_of_a_tokenizer_json(tmp_path: Path, legacy: bool) -> None:
    made(legacy=legacy).save_pretrained(tmp_path / "first", legacy_format=False)
    tokenizer = LlamaTokenizer.from_pretrained(tmp_path / "first")
    assert tokenizer.is_fast
    assert tokenizer.legacy == legacy
    tokenizer.save_pretrained(tmp_path / "second")
    again = LlamaTokenizer.from_pretrained(tmp_path / "second")
    assert files(tmp_path / "second") == files(tmp_path / "first")
    assert ids(again) == ids(tokenizer)
    assert again.added_tokens_decoder == tokenizer.added_tokens_decoder
    assert again.special_tokens_map == tokenizer.special_tokens_map
    with pytest.raises(ValueError, match=r"no tokenizer\.model"):
        again.save_vocabulary(str(tmp_path))
    with pytest.raises(ValueError, match=r"no tokenizer\.model"):
        again.save_pretrained(tmp_path / "third", legacy_format=True)


@pytest.mark.parametrize(
    ("legacy_format", "expected"),
    [
        (None, {"tokenizer.model", "tokenizer.json"}),
        (True, {"tokenizer.model"}),
        (False, {"tokenizer.json"}),
    ],
)
def test_formats(tmp_path: Path, legacy_format: bool | None, expected: set[str]) -> None:
    written = LlamaTokenizer(DEFAULT_MODEL, legacy=True).save_pretrained(
        tmp_path, legacy_format=legacy_format, filename_prefix="p"
    )
    names = {f"p-{name}" for name in expected | {"tokenizer_config.json", "special_tokens_map.json"}}
    assert files(tmp_path) == names
    # transformers names it whether or not there is one.
    more = {"p-added_tokens.json"} if "tokenizer.model" in expected else set()
    assert {os.path.basename(path) for path in written} == names | more


def test_added_tokens_get_a_file(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    size = LlamaTokenizer(DEFAULT_MODEL, legacy=True).vocab_size
    assert added == {"<pad>": size, "<bar>": size + 1, "<foo>": size + 2, "<baz>": size + 3}


def test_which_file_is_read(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    assert not LlamaTokenizer.from_pretrained(tmp_path).is_fast
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["llamatok_source"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    both = LlamaTokenizer.from_pretrained(tmp_path)
    assert both.is_fast
    assert both.can_save_slow_tokenizer
    assert not LlamaTokenizer.from_pretrained(tmp_path, from_slow=True).is_fast
    assert not LlamaTokenizer.from_pretrained(tmp_path, use_fast=False).is_fast
    (tmp_path / "tokenizer.json").unlink()
    assert not LlamaTokenizer.from_pretrained(tmp_path).is_fast


def test_a_single_file(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    expected = LlamaTokenizer(DEFAULT_MODEL, legacy=True)("Hello")["input_ids"]
    for name, fast in (("tokenizer.model", False), ("tokenizer.json", True)):
        tokenizer = LlamaTokenizer.from_pretrained(tmp_path / name, legacy=True)
        assert tokenizer.is_fast == fast
        assert tokenizer("Hello")["input_ids"] == expected


def test_arguments_go_before_files(tmp_path: Path) -> None:
    made(model_max_length=5, chat_template="file").save_pretrained(tmp_path)
    tokenizer = LlamaTokenizer.from_pretrained(
        tmp_path, model_max_length=6, chat_template="argument", add_bos_token=False, pad_token="</s>"
    )
    assert tokenizer.model_max_length == 6
    assert tokenizer.chat_template == "argument"
    assert tokenizer("a")["input_ids"] == tokenizer.encode("a", add_special_tokens=False)
    assert tokenizer.pad_token == "</s>"


def test_added_tokens_of_old_folders(tmp_path: Path) -> None:
    """Before 4.34 there was no `added_tokens_decoder`: the two small files said it."""
    (tmp_path / "tokenizer.model").write_bytes(DEFAULT_MODEL.read_bytes())
    size = LlamaTokenizer(DEFAULT_MODEL, legacy=True).vocab_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<foo>": size + 1, "<pad>": size}))
    entry = {"content": "<pad>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": entry, "additional_special_tokens": ["<bar>"], "bos_token": "<s>"})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": True, "max_len": 9}))
    tokenizer = LlamaTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == size
    assert tokenizer.convert_tokens_to_ids(["<foo>", "<bar>"]) == [size + 1, size + 2]
    assert tokenizer.added_tokens_decoder[size].special
    assert not tokenizer.added_tokens_decoder[size + 1].special
    assert tokenizer.additional_special_tokens == ["<bar>"]
    assert tokenizer.model_max_length == 9


def test_chat_templates(tmp_path: Path) -> None:
    made(chat_template={"default": "D", "rag": "R"}).save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == "D"
    assert (tmp_path / "additional_chat_templates" / "rag.jinja").read_text() == "R"
    assert LlamaTokenizer.from_pretrained(tmp_path).chat_template == {"default": "D", "rag": "R"}
    # The file of its own goes before the configuration, which old versions read.
    (tmp_path / "additional_chat_templates" / "rag.jinja").unlink()
    (tmp_path / "chat_template.jinja").write_text("J")
    assert LlamaTokenizer.from_pretrained(tmp_path).chat_template == "J"
    (tmp_path / "chat_template.jinja").unlink()
    assert LlamaTokenizer.from_pretrained(tmp_path).chat_template == {"default": "D", "rag": "R"}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "O"}))
    assert LlamaTokenizer.from_pretrained(tmp_path).chat_template == "O"
    with pytest.raises(ValueError, match="name of a chat template"):
        made(chat_template={"../x": "X"}).save_pretrained(tmp_path)


@pytest.mark.parametrize("version", [4, 5])
def test_special_tokens_of_a_models_own(tmp_path: Path, version: int) -> None:
    named: Any = {"image_token": "<image>"}
    tokenizer = LlamaTokenizer(
        DEFAULT_MODEL, legacy=True, **({"extra_special_tokens": named} if version == 4 else named)
    )
    assert tokenizer.image_token == "<image>"
    assert tokenizer.image_token_id == tokenizer.vocab_size
    assert "<image>" in tokenizer.all_special_tokens
    tokenizer.save_pretrained(tmp_path)
    again = LlamaTokenizer.from_pretrained(tmp_path)
    assert again.image_token_id == tokenizer.image_token_id
    assert again("<image>x").data == tokenizer("<image>x").data


def test_copies() -> None:
    tokenizer = made()
    for again in (pickle.loads(pickle.dumps(tokenizer)), deepcopy(tokenizer)):
        assert ids(again) == ids(tokenizer)
        again.add_tokens(["<more>"])
        assert len(again) == len(tokenizer) + 1
    assert pickle.dumps(tokenizer) == pickle.dumps(made())


def test_a_gguf_file(tmp_path: Path) -> None:
    path = shared_file("vectors", "ggml-vocab-llama-spm.gguf")
    tokenizer = LlamaTokenizer.from_pretrained(path, legacy=True)
    assert tokenizer("Hello this is a test")["input_ids"] == [1, 15043, 445, 338, 263, 1243]
    assert not tokenizer.can_save_slow_tokenizer
    tokenizer.save_pretrained(tmp_path)
    assert "tokenizer.model" not in files(tmp_path)
    again = LlamaTokenizer.from_pretrained(tmp_path)
    assert again("Hello this is a test")["input_ids"] == [1, 15043, 445, 338, 263, 1243]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.gguf").symlink_to(path)
    assert LlamaTokenizer.from_pretrained(folder, legacy=True).vocab_size == 32_000
    assert LlamaTokenizer.from_pretrained(folder, gguf_file="model.gguf", legacy=True).vocab_size == 32_000


def test_documented_ids() -> None:
    """The example of transformers' documents, of all versions."""
    model = shared_file("models", "llama2", "tokenizer.model")
    for legacy in (True, False):
        tokenizer = LlamaTokenizer(model, legacy=legacy)
        assert tokenizer.encode("Hello this is a test") == [1, 15043, 445, 338, 263, 1243]
    assert LlamaTokenizer(model, legacy=True).encode("Hello <s>.") == [1, 15043, 29871, 1, 869]
    assert LlamaTokenizer(model, legacy=False).encode("Hello <s>.") == [1, 15043, 29871, 1, 29889]
    assert LlamaTokenizer(model, legacy=True, add_eos_token=True).encode("Hello") == [1, 15043, 2]


def test_vocab_and_merges() -> None:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "b": 5, "ab": 6, "▁ab": 7}
    merges = [("a", "b"), ("▁", "ab")]
    tokenizer = LlamaTokenizer(vocab=vocab, merges=merges)
    assert tokenizer.is_fast
    assert tokenizer.tokenize("ab a") == ["▁ab", "▁", "a"]
    assert tokenizer("ab")["input_ids"] == [1, 7]
    assert LlamaTokenizer(vocab, merges=["a b", "▁ ab"]).tokenize("ab") == ["▁ab"]
    assert LlamaTokenizer(list(vocab), merges=merges, add_prefix_space=False).tokenize("ab") == ["ab"]
    with pytest.raises(ValueError, match="two tokens"):
        LlamaTokenizer(vocab=vocab, merges=["a b c"])


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.mark.parametrize("special", [["<unk>", "<s>", "</s>"], ["[U]", "<s>", "</s>"], ["<s>", "</s>"]])
@pytest.mark.parametrize("byte_tokens", [[], BYTES], ids=["no bytes", "bytes"])
@pytest.mark.parametrize("unk_token", ["<unk>", "[U]", None])
@pytest.mark.parametrize("legacy", [None, True, False])
def test_vocab_and_merges_as_in_transformers_5(
    special: list[str], byte_tokens: list[str], unk_token: str | None, legacy: bool | None
) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    vocab = {token: id for id, token in enumerate([*special, "▁", "a", "b", "▁a", "ab", *byte_tokens])}
    arguments: dict[str, Any] = {
        "vocab": vocab,
        "merges": [("▁", "a"), ("a", "b")],
        "unk_token": unk_token,
        "add_bos_token": True,
    }
    if legacy is not None:
        arguments["legacy"] = legacy
    theirs = transformers.LlamaTokenizer(**arguments)
    ours = LlamaTokenizer(**arguments)
    for text in ["a b", "azzb", "z", "é a", "", " zz<unk>[U] a"]:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert ours.tokenize(text) == theirs.tokenize(text)
    assert (ours.unk_token, ours.unk_token_id) == (theirs.unk_token, theirs.unk_token_id)
    assert ours.convert_tokens_to_ids(["a", "zz"]) == theirs.convert_tokens_to_ids(["a", "zz"])
    assert (len(ours), ours.get_vocab()) == (len(theirs), theirs.get_vocab())


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no tokenizer"):
        LlamaTokenizer.from_pretrained(tmp_path)
    with pytest.raises(OSError, match="no such file or folder"):
        LlamaTokenizer.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="needs a `vocab_file`"):
        LlamaTokenizer()
    with pytest.raises(TypeError, match="pad_token"):
        LlamaTokenizer(DEFAULT_MODEL, legacy=True, pad_token=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="padding_side"):
        LlamaTokenizer(DEFAULT_MODEL, legacy=True, padding_side="up")
    with pytest.raises(TypeError, match="tokenizer_object"):
        LlamaTokenizer(tokenizer_object=5)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}, "added_tokens": []}')
    with pytest.raises((UnsupportedModelError, ValueError)):
        LlamaTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("no JSON")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json"):
        LlamaTokenizer.from_pretrained(tmp_path)
    with pytest.raises(NotADirectoryError):
        made().save_pretrained(tmp_path / "tokenizer.json")
    with pytest.raises(NotADirectoryError):
        made().save_vocabulary(str(tmp_path / "missing"))


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository in the hub's cache is found without the hub."""
    pytest.importorskip("huggingface_hub")
    commit = "0123456789012345678901234567890123456789"
    repository = tmp_path / "models--someone--llama"
    snapshot = repository / "snapshots" / commit
    made(model_max_length=7).save_pretrained(snapshot / "inner")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for revision in ("main", commit):
        tokenizer = LlamaTokenizer.from_pretrained(
            "someone/llama",
            cache_dir=tmp_path,
            local_files_only=True,
            subfolder="inner",
            revision=revision,
        )
        assert tokenizer.model_max_length == 7
        assert tokenizer.name_or_path == "someone/llama"
        assert ids(tokenizer) == ids(made())
    with pytest.raises(OSError, match="not in the hub's cache"):
        LlamaTokenizer.from_pretrained("someone/else", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(OSError, match="no tokenizer"):
        LlamaTokenizer.from_pretrained("someone/llama", cache_dir=tmp_path, local_files_only=True)


def test_sampling_is_seeded() -> None:
    settings: dict[str, Any] = {"sp_model_kwargs": {"enable_sampling": True, "nbest_size": -1, "alpha": 0.5}}
    first, second = made(**settings, seed=3), made(**settings, seed=3)
    drawn = [first.tokenize("Hello wonderful world") for _ in range(20)]
    assert drawn == [second.tokenize("Hello wonderful world") for _ in range(20)]
    assert len({tuple(tokens) for tokens in drawn}) > 1
    encoded = first(["Hello wonderful world"] * 3)
    assert [encoded.tokens(row) for row in range(3)] == [
        first.convert_ids_to_tokens(row) for row in encoded["input_ids"]
    ]
    whole = made(sp_model_kwargs={"enable_sampling": True, "alpha": 0.0})
    assert whole("Hello world").data == made()("Hello world").data
    with pytest.raises(ValueError, match="alpha"):
        made(sp_model_kwargs={"enable_sampling": True, "alpha": 2})
    with pytest.raises(ValueError, match="sp_model_kwargs"):
        made(sp_model_kwargs={"beta": 1})


def test_training_makes_a_tokenizer_with_the_same_special_tokens() -> None:
    pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    texts = [f"the quick brown fox number {number} jumps over the lazy dog" for number in range(300)]
    trained = made(add_eos_token=True).train_new_from_iterator([texts[:100], *texts[100:]], vocab_size=350)
    assert trained.vocab_size == 350
    assert trained.pad_token == "<pad>"
    encoded = trained("the quick brown fox")["input_ids"]
    assert (encoded[0], encoded[-1]) == (trained.bos_token_id, trained.eos_token_id)
    assert trained.decode(encoded, skip_special_tokens=True) == "the quick brown fox"
    assert trained.can_save_slow_tokenizer


def test_settings_take_effect_after_construction(tmp_path: Path) -> None:
    tokenizer = LlamaTokenizer(DEFAULT_MODEL, legacy=True)
    for legacy in (False, True):
        for prefix in (False, True):
            tokenizer.legacy = legacy
            tokenizer.add_prefix_space = prefix
            fresh = LlamaTokenizer(DEFAULT_MODEL, legacy=legacy, add_prefix_space=prefix)
            assert ids(tokenizer) == ids(fresh)
            tokenizer.save_pretrained(tmp_path, legacy_format=True)
            assert ids(LlamaTokenizer.from_pretrained(tmp_path)) == ids(fresh)
    tokenizer.add_eos_token = True
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    tokenizer.bos_token = "</s>"
    assert tokenizer("a")["input_ids"][0] == tokenizer.eos_token_id
    tokenizer.bos_token = None
    assert tokenizer("a")["input_ids"] == [*tokenizer("a", add_special_tokens=False)["input_ids"], 2]
    tokenizer.bos_token, tokenizer.add_bos_token = "<s>", False
    assert tokenizer("a")["input_ids"][0] not in (tokenizer.eos_token_id, None)


@pytest.mark.parametrize("legacy_format", [True, False])
def test_a_token_that_is_none_is_not_added(tmp_path: Path, legacy_format: bool) -> None:
    whole = LlamaTokenizer(DEFAULT_MODEL, legacy=True, add_eos_token=True)
    plain = whole("a b", add_special_tokens=False)["input_ids"]
    bos, eos = whole.bos_token_id, whole.eos_token_id
    for name, before, after in [("bos_token", [], [eos]), ("eos_token", [bos], [])]:
        tokenizer = LlamaTokenizer(DEFAULT_MODEL, legacy=True, add_eos_token=True, **{name: None})
        tokenizer.save_pretrained(tmp_path, legacy_format=legacy_format)
        loaded = LlamaTokenizer.from_pretrained(tmp_path)
        for one in (tokenizer, loaded):
            assert getattr(one, name) is None
            assert one("a b")["input_ids"] == [*before, *plain, *after]
            assert one("a b", add_special_tokens=False)["input_ids"] == plain
            assert one("a b", "a b")["input_ids"] == [*before, *plain, *after] * 2
            assert one.build_inputs_with_special_tokens([5], [6]) == [*before, 5, *after, *before, 6, *after]
            assert one.get_special_tokens_mask([5]) == [1] * len(before) + [0] + [1] * len(after)
            assert (one.num_special_tokens_to_add(), one.num_special_tokens_to_add(pair=True)) == (1, 2)
            assert one.decode(one("a b")["input_ids"], skip_special_tokens=True).startswith("a b")


def test_settings_of_a_tokenizer_json(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path, legacy_format=False)
    tokenizer = LlamaTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="when it is loaded"):
        tokenizer.add_prefix_space = False
    bare = LlamaTokenizer.from_pretrained(tmp_path, add_prefix_space=False)
    assert bare.tokenize("the") != tokenizer.tokenize("the")
    tokenizer.bos_token = "</s>"
    assert tokenizer("a")["input_ids"][0] == 1
    tokenizer.update_post_processor()
    assert tokenizer("a")["input_ids"][0] == 2


def test_errors_of_the_content_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    for data in (b"root:x:0:0:root:/root", b'{"version": "1.0"}'):
        path.write_bytes(data)
        for arguments in ({"vocab_file": path}, {"tokenizer_file": path}):
            with pytest.raises(ModelFormatError) as error:
                LlamaTokenizer(**arguments)
            assert str(error.value).startswith(f"{path}: ")
    path.write_bytes(b'{"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}')
    with pytest.raises(UnsupportedModelError) as unsupported:
        LlamaTokenizer(path)
    assert str(unsupported.value).startswith(f"{path}: model.type: ")
