"""Hugging Face folders: what transformers writes is read, what is written transformers reads."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from llamatok.weights import LazyTensor, WeightsError, convert, open_checkpoint  # noqa: E402
from llamatok.weights.huggingface import parse_size, write_folder  # noqa: E402
from llamatok.weights.safetensors_file import read_metadata  # noqa: E402


def read(folder):
    return {name: lazy.read() for name, lazy in open_checkpoint(folder).tensors.items()}


def lazily(state):
    return {
        name: LazyTensor(tuple(tensor.shape), tensor.dtype, lambda tensor=tensor: tensor)
        for name, tensor in state.items()
    }


def same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("shard", ["5GB", "40KB"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reads_what_transformers_writes(reference, tmp_path, shard, tied, dtype):
    model = copy.deepcopy(reference(tie_word_embeddings=tied).model).to(dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    expected = model.state_dict()
    if tied:
        del expected["lm_head.weight"]
    same(read(tmp_path), expected)
    assert open_checkpoint(tmp_path).dtype() == dtype


@pytest.mark.parametrize("shard", ["5GB", "40KB", 1])
def test_transformers_reads_what_is_written(reference, from_folder, tmp_path, ids, shard):
    model = reference()
    write_folder(tmp_path, model.model.config.to_dict(), lazily(model.state), max_shard_size=shard)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert all(read_metadata(file) == {"format": "pt"} for file in files)
    assert (len(files) > 1) == (shard != "5GB")
    loaded = from_folder(tmp_path)
    same(loaded.state, model.state)
    assert torch.equal(loaded.logits(ids), model.logits(ids))
    same(read(tmp_path), model.state)


def test_shards_keep_the_limit_and_the_index_their_size(reference, tmp_path):
    model = reference()
    write_folder(tmp_path, {}, lazily(model.state), max_shard_size="40KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in model.state.values())
    assert set(index["weight_map"]) == set(model.state)
    for file in tmp_path.glob("*.safetensors"):
        names = [name for name, place in index["weight_map"].items() if place == file.name]
        assert names
        assert sum(model.state[name].nbytes for name in names) <= 40_000 or len(names) == 1


def test_saving_again_leaves_no_other_shards(reference, tmp_path):
    state = lazily(reference().state)
    (tmp_path / "model-notes.txt").write_text("mine")
    for size in ("40KB", "20KB", "5GB", "40KB"):
        write_folder(tmp_path, {}, state, max_shard_size=size)
        same(read(tmp_path), reference().state)
        index = tmp_path / "model.safetensors.index.json"
        files = {file.name for file in tmp_path.glob("*.safetensors")}
        assert index.exists() == (size != "5GB")
        if index.exists():
            assert files == set(json.loads(index.read_text())["weight_map"].values())
    assert (tmp_path / "model-notes.txt").exists()
    assert not list(tmp_path.glob(".*")), "temporary files are left"


def test_a_save_that_breaks_off_leaves_what_was_there(reference, tmp_path):
    state = reference().state
    write_folder(tmp_path, {"model_type": "llama"}, lazily(state))
    broken = lazily({name: tensor + 1 for name, tensor in state.items()})

    def fails():
        raise OSError("no space left")

    last = list(broken)[-1]
    broken[last] = LazyTensor(broken[last].shape, broken[last].dtype, fails)
    for size in ("5GB", "40KB"):
        with pytest.raises(OSError, match="no space"):
            write_folder(tmp_path, {"model_type": "other"}, broken, max_shard_size=size)
        same(read(tmp_path), state)
        assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_saving_over_the_folder_it_was_loaded_from(reference, tmp_path):
    """The mapped file must not change under the tensors that are being written."""
    state = reference().state
    write_folder(tmp_path, {"model_type": "llama"}, lazily(state))
    mapped = read(tmp_path)
    write_folder(tmp_path, {"model_type": "llama"}, lazily(mapped))
    same(mapped, state)
    same(read(tmp_path), state)


def test_mapped_tensors_are_private(reference, tmp_path):
    state = reference().state
    write_folder(tmp_path, {"model_type": "llama"}, lazily(state))
    for tensor in read(tmp_path).values():
        tensor.zero_()
    same(read(tmp_path), state)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_bin_files(reference, tmp_path, sharded, zipped):
    model = reference()
    (tmp_path / "config.json").write_text(json.dumps(model.model.config.to_dict(), default=str))
    names = list(model.state)
    parts = {"pytorch_model.bin": names}
    if sharded:
        half = len(names) // 2
        parts = {"pytorch_model-1.bin": names[:half], "pytorch_model-2.bin": names[half:]}
        places = {name: file for file, part in parts.items() for name in part}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    for file, part in parts.items():
        torch.save(
            {name: model.state[name] for name in part},
            tmp_path / file,
            _use_new_zipfile_serialization=zipped,
        )
    same(read(tmp_path), model.state)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_bin_files_run_no_code(tmp_path, zipped):
    (tmp_path / "config.json").write_text("{}")
    mark = tmp_path / "mark"
    content = {"model.norm.weight": torch.ones(2), "evil": Evil(mark)}
    torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="might run code"):
        read(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        read(tmp_path)
    assert not mark.exists()


def test_pickles_need_a_torch_that_runs_nothing_in_them(tmp_path, monkeypatch):
    """`weights_only=True` of torch before 2.6 can be got round (CVE-2025-32434)."""
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    for version in ("2.6.0+cu124", "2.15.1"):
        monkeypatch.setattr(torch, "__version__", version)
        open_checkpoint(tmp_path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*torch 2\.6 or newer"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pickles_are_told(tmp_path, zipped):
    """By one error, whatever torch raises for them: errors of types and places, failed assertions."""
    path = tmp_path / "pytorch_model.bin"
    (tmp_path / "config.json").write_text("{}")
    torch.save({"a": torch.zeros(2, 3)}, path, _use_new_zipfile_serialization=zipped)
    sound = path.read_bytes()
    rng = random.Random(1)
    for _ in range(1_000):
        data = bytearray(sound)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):
            open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "a/../../x",
        "",
        3,
        ["x"],
        "C:\\x",
        "link",
        "loop",
        "\ud800",
        "x" * 999,
    ],
)
def test_an_index_cannot_lead_out_of_its_folder(reference, tmp_path, name):
    write_folder(tmp_path / "outside", {}, lazily(reference().state))
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "outside" / "model.safetensors")
    (folder / "link").symlink_to(tmp_path / "outside" / "model.safetensors")
    (folder / "loop").symlink_to("loop")
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"index\.json"):
        open_checkpoint(folder)


def test_links_into_the_blobs_of_the_hubs_cache_are_followed(reference, tmp_path):
    state = reference().state
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    write_folder(snapshot, {"model_type": "llama"}, lazily(state), max_shard_size="40KB")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("..", "..", "blobs", str(number)))
    same(read(snapshot), state)


def test_a_repository_in_the_hubs_cache_is_found_by_its_name(reference, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    root = tmp_path / "models--llamas--tiny"
    write_folder(root / "snapshots" / "0123", {"model_type": "llama"}, lazily(reference().state))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    found = open_checkpoint("llamas/tiny", cache_dir=tmp_path)
    same({name: lazy.read() for name, lazy in found.tensors.items()}, reference().state)
    with pytest.raises(WeightsError, match="llamas/other"):
        open_checkpoint("llamas/other", cache_dir=tmp_path)


def test_promised_tensors_that_are_not_there(reference, tmp_path):
    write_folder(tmp_path, {}, lazily(reference().state), max_shard_size="40KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.extra"] = index["weight_map"]["model.norm.weight"]
    path.write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"model\.extra \(in model-"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"config.json": b"{"}, "not JSON"),
        ({"config.json": b"[1]"}, "JSON object"),
        ({"config.json": b"\xff"}, "not JSON"),
        ({"config.json": b"{}"}, "no weights"),
        ({"config.json": b"{}", "model.safetensors": b""}, "safetensors"),
        ({"config.json": b"{}", "model.safetensors": b"\xff" * 64}, "safetensors"),
        ({"config.json": b"{}", "pytorch_model.bin": b"\x80\x02"}, "pytorch_model"),
        ({"config.json": b"{}", "model.safetensors.index.json": b"{}"}, "weight_map"),
        ({"config.json": b'{"quantization_config": {"quant_method": "gptq"}}'}, "quantized .gptq."),
        ({"notes": b""}, "holds no model"),
    ],
)
def test_damaged_folders_are_told(tmp_path, content, message):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path)


def test_every_cut_of_a_safetensors_file_is_an_error(tmp_path):
    write_folder(tmp_path, {}, lazily({"model.norm.weight": torch.ones(5)}))
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="cut short"):
            open_checkpoint(tmp_path)


def test_what_is_not_there(tmp_path):
    for name in (tmp_path / "nothing", "./nothing", "/nothing/here"):
        with pytest.raises(FileNotFoundError):
            open_checkpoint(name)


def test_a_file_of_a_folder_is_told_to_be_one(reference, tmp_path):
    write_folder(tmp_path, {}, lazily(reference().state))
    with pytest.raises(WeightsError, match="give the folder"):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 MB", 1_500_000), ("2GiB", 2 << 30), ("7B", 7), (9, 9)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "five", "5", "-1GB", "0GB", 0])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match=r"size|room"):
        parse_size(text)


def test_mixed_dtypes_come_back(tmp_path):
    state = {
        "a": torch.randn(3).to(torch.bfloat16),
        "b": torch.arange(3),
        "c": torch.randn(2, 2).to(torch.float8_e4m3fn),
        "d": torch.tensor([True]),
        "e": torch.randn(()),
        "f": torch.empty(0, 4),
        "g": torch.randn(3, 5).T,
    }
    write_folder(tmp_path, {}, lazily(state))
    found = read(tmp_path)
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].float(), tensor.float())


def test_converting_changes_the_dtype_and_brings_the_tokenizer(reference, from_folder, tmp_path):
    model = reference()
    model.model.save_pretrained(tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    convert(tmp_path / "in", tmp_path / "out", dtype="bfloat16")
    same(read(tmp_path / "out"), {name: tensor.bfloat16() for name, tensor in model.state.items()})
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert from_folder(tmp_path / "out").model.dtype == torch.bfloat16
    with pytest.raises(WeightsError, match="the source itself"):
        convert(tmp_path / "in", tmp_path / "in")
