"""Each format holds the tokens of the documents, by the trainers' own readers where they are installed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llamatok import Tokenizer
from llamatok.corpus import tokenize

from .conftest import TEXTS, expected, manifest, write_jsonl


def make(corpus: Path, folder: Path, form: str, **settings: Any) -> Path:
    settings = {"add_eos": True, "block_size": 4096, "progress": False, **settings}
    tokenize(corpus, folder, format=form, **settings)
    return folder


@pytest.fixture
def documents(tokenizer: Tokenizer) -> list[list[int]]:
    return expected(tokenizer, TEXTS)


def packed(documents: list[list[int]], length: int) -> np.ndarray[Any, Any]:
    tokens = np.array([id for ids in documents for id in ids])
    return tokens[: len(tokens) // length * length].reshape(-1, length)


def positions(documents: list[list[int]], length: int) -> np.ndarray[Any, Any]:
    """Position ids made in the plainest way."""
    found: list[int] = []
    for ids in documents:
        place = 0
        for _ in ids:
            place = 0 if len(found) % length == 0 else place
            found.append(place)
            place += 1
    return np.array(found[: len(found) // length * length]).reshape(-1, length)


def test_nanogpt(corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    make(corpus, tmp_path / "out", "nanogpt")
    found = np.memmap(tmp_path / "out" / "train.bin", dtype=np.uint16, mode="r")
    assert found.tolist() == [id for ids in documents for id in ids]


@pytest.mark.parametrize("shard_size", [None, 2000])
def test_megatron_by_its_own_reader(
    shard_size: int | None, corpus: Path, tmp_path: Path, documents: list[list[int]]
) -> None:
    if importlib.util.find_spec("megatron") is None:
        pytest.skip("megatron-core is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset", exc_type=ImportError)
    make(corpus, tmp_path / "out", "megatron", shard_size=shard_size)
    found: list[list[int]] = []
    count = 0
    prefixes = sorted(str(path)[:-4] for path in (tmp_path / "out").glob("*.idx"))
    assert (len(prefixes) > 3) == (shard_size is not None)
    for prefix in prefixes:
        assert Path(f"{prefix}.idx").name.endswith("_text_document.idx")
        dataset = indexed_dataset.IndexedDataset(prefix)
        found += [dataset[i].tolist() for i in range(len(dataset))]
        indices = dataset.document_indices.tolist()
        assert indices[0] == 0
        assert indices[-1] == len(dataset)
        count += len(indices) - 1
        assert Path(f"{prefix}.bin").stat().st_size == 2 * sum(dataset.sequence_lengths.tolist())
    # A document without tokens has no sequence, but it is a document.
    assert found == [ids for ids in documents if ids]
    assert count == len(documents)


def test_megatron_layout(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a", "", "bb"])
    make(tmp_path / "a.jsonl", tmp_path / "out", "megatron", text_key="n.deep")
    data = (tmp_path / "out" / "train_n.deep_document.idx").read_bytes()
    assert data[:18] == b"MMIDIDX\0\0" + (1).to_bytes(8, "little") + b"\x08"
    assert np.frombuffer(data[18:34], "<u8").tolist() == [2, 4]
    lengths = np.frombuffer(data[34:42], "<i4")
    assert np.frombuffer(data[42:58], "<i8").tolist() == [0, 2 * lengths[0]]
    assert np.frombuffer(data[58:], "<i8").tolist() == [0, 1, 1, 2]
    assert len(data) == 34 + 12 * 2 + 8 * 4


def test_datatrove_by_its_own_reader(corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    folder = make(corpus, tmp_path / "out", "datatrove", shard_size=3000)
    ends: list[int] = []
    tokens: list[int] = []
    for path in sorted(folder.glob("*.ds")):
        index = np.fromfile(f"{path}.index", "<u8")
        ends += (index + len(tokens)).tolist()
        tokens += np.fromfile(path, "<u2").tolist()
        assert Path(f"{path}.metadata").read_text().splitlines()[:2] == [
            "embedded|2",
            str(path.stat().st_size // 2),
        ]
    assert tokens == [id for ids in documents for id in ids]
    assert ends == np.cumsum([len(ids) for ids in documents]).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = pytest.importorskip("datatrove.utils.dataset", exc_type=ImportError)
        pytest.importorskip("torch")
        found: list[int] = []
        for path in sorted(folder.glob("*.ds")):
            dataset = reader.DatatroveFileDataset(str(path), seq_len=15, token_size=2)
            found += [id for i in range(len(dataset)) for id in dataset[i]["input_ids"].tolist()]
    shards = [np.fromfile(path, "<u2") for path in sorted(folder.glob("*.ds"))]
    assert found == [id for shard in shards for id in shard[: len(shard) // 16 * 16].tolist()]


@pytest.mark.parametrize("shard_size", [None, 4000])
def test_litdata_by_its_own_reader(
    shard_size: int | None, corpus: Path, tmp_path: Path, documents: list[list[int]]
) -> None:
    folder = make(corpus, tmp_path / "out", "litdata", pack=16, shard_size=shard_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litdata = pytest.importorskip("litdata", exc_type=ImportError)
        dataset = litdata.StreamingDataset(
            str(folder), item_loader=litdata.TokensLoader(block_size=16), shuffle=False
        )
        found = np.array([np.asarray(dataset[i]).tolist() for i in range(len(dataset))])
    assert found.tolist() == packed(documents, 16).tolist()
    index = json.loads((folder / "index.json").read_bytes())
    assert sum(chunk["dim"] for chunk in index["chunks"]) == found.size
    assert (len(index["chunks"]) > 3) == (shard_size is not None)


@pytest.mark.parametrize("pack", [None, 32])
def test_mds_by_its_own_reader(
    pack: int | None, corpus: Path, tmp_path: Path, documents: list[list[int]]
) -> None:
    folder = make(corpus, tmp_path / "out", "mds", pack=pack, shard_size=3000)
    assert len(list(folder.glob("*.mds"))) > 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming = pytest.importorskip("streaming", exc_type=ImportError)
        dataset = streaming.LocalDataset(str(folder))
        samples = [dataset[i] for i in range(len(dataset))]
    found = [sample["tokens"].tolist() for sample in samples]
    if pack is None:
        assert found == [ids for ids in documents if ids]
    else:
        assert found == packed(documents, pack).tolist()
        assert [sample["position_ids"].tolist() for sample in samples] == positions(documents, pack).tolist()


def test_mds_samples_whose_lengths_need_one_two_and_four_bytes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = ["a", "b c " * 300, "d e " * 40_000]
    write_jsonl(tmp_path / "a.jsonl", texts)
    folder = make(tmp_path / "a.jsonl", tmp_path / "out", "mds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming = pytest.importorskip("streaming", exc_type=ImportError)
        dataset = streaming.LocalDataset(str(folder))
        found = [dataset[i]["tokens"].tolist() for i in range(3)]
    assert found == expected(tokenizer, texts)
    assert [len(ids).bit_length() // 9 for ids in found] == [0, 1, 1] or len(found[2]) > 1 << 16


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_tables_keep_their_columns(form: str, tmp_path: Path, documents: list[list[int]]) -> None:
    table = pa.table(
        {"text": TEXTS, "n": range(len(TEXTS)), "tags": [["a", str(i)] for i in range(len(TEXTS))]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    folder = make(tmp_path / "a.parquet", tmp_path / "out", form, shard_size=3000, id_key="n")
    files = sorted(folder.glob(f"train-*.{form}"))
    assert len(files) > 3
    tables = [pq.read_table(f) if form == "parquet" else pa.ipc.open_file(f).read_all() for f in files]
    found = pa.concat_tables(tables)
    assert found.column("input_ids").to_pylist() == documents
    assert found.select(["n", "tags"]).equals(table.select(["n", "tags"]))
    some = make(tmp_path / "a.parquet", tmp_path / "some", form, columns=["n"])
    name = some / f"train-00000.{form}"
    schema = pq.read_schema(name) if form == "parquet" else pa.ipc.open_file(name).schema
    assert schema.names == ["n", "input_ids"]


def test_tables_from_json_lines_keep_fields_as_they_are_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = tmp_path / "a.jsonl"
    records: list[dict[str, Any]] = [
        {"text": "a", "when": "2020-01-01", "meta": {"k": 1, "tags": ["x"]}},
        {"text": "b", "when": "not a time", "meta": {"k": 2, "tags": []}},
        {"text": "c", "when": None, "meta": None},
    ]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    make(source, tmp_path / "out", "parquet")
    found = pq.read_table(tmp_path / "out" / "train-00000.parquet").to_pylist()
    assert [{"text": text, **row} for text, row in zip("abc", found, strict=True)] == [
        {**record, "input_ids": ids}
        for record, ids in zip(records, expected(tokenizer, ["a", "b", "c"]), strict=True)
    ]


@pytest.mark.parametrize("shard_size", [None, 3000])
def test_npy(shard_size: int | None, corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    folder = make(corpus, tmp_path / "out", "npy", shard_size=shard_size)
    found: list[list[int]] = []
    for path in sorted(folder.glob("*.offsets.npy")):
        offsets = np.load(path, mmap_mode="r")
        tokens = np.load(str(path).replace(".offsets", ""), mmap_mode="r")
        assert tokens.dtype == np.uint16
        found += [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert found == documents


@pytest.mark.parametrize("shard_size", [None, 3000])
def test_packed_npy(shard_size: int | None, corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=24, shard_size=shard_size)
    names = sorted(path for path in folder.glob("train*.npy") if "position" not in path.name)
    found = np.concatenate([np.load(name) for name in names])
    places = np.concatenate([np.load(str(name).replace(".npy", ".position_ids.npy")) for name in names])
    assert found.tolist() == packed(documents, 24).tolist()
    assert places.tolist() == positions(documents, 24).tolist()
    left = sum(map(len, documents)) % 24
    assert manifest(folder)["counts"]["tokens_left_out"] == left


def test_the_last_sequence_may_be_padded(corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=1000, pack_remainder="pad")
    flat = [id for ids in documents for id in ids]
    found = np.load(folder / "train.npy")
    assert found.size - len(flat) in range(1000)
    assert found.ravel().tolist() == flat + [2] * (found.size - len(flat))
    assert manifest(folder)["counts"]["tokens_left_out"] == 0


def test_flat_formats_have_position_ids_beside_them(
    corpus: Path, tmp_path: Path, documents: list[list[int]]
) -> None:
    for form, name in (
        ("nanogpt", "train.position_ids.bin"),
        ("megatron", "train_text_document.position_ids.bin"),
        ("datatrove", "00000_tokens.ds.position_ids"),
        ("litdata", "chunk-0-0.position_ids"),
    ):
        folder = make(corpus, tmp_path / form, form, pack=24)
        found = np.fromfile(folder / name, "<u2").reshape(-1, 24)
        assert found.tolist() == positions(documents, 24).tolist()
        assert not (
            make(corpus, tmp_path / f"{form}-without", form, pack=24, position_ids=False) / name
        ).exists()


def test_large_vocabularies_take_wider_tokens() -> None:
    from llamatok.corpus.work import token_dtype

    forms = ("megatron", "nanogpt", "datatrove")
    assert [token_dtype(form, 65499).str for form in forms] == ["<u2"] * 3
    assert [token_dtype(form, 65500).str for form in forms] == ["<i4", "<u2", "<u2"]
    assert [token_dtype(form, 65537).str for form in forms] == ["<i4", "<u4", "<u4"]


def test_the_manifest_tells_what_is_there(corpus: Path, tmp_path: Path, documents: list[list[int]]) -> None:
    import hashlib

    import llamatok

    folder = make(corpus, tmp_path / "out", "megatron", shard_size=3000)
    found = manifest(folder)
    assert found["llamatok"] == llamatok.__version__
    assert found["tokenizer"]["vocab_size"] == 32000
    assert found["settings"]["add_eos"] is True
    assert found["counts"]["documents"] == len(documents) == found["inputs"][0]["documents"]
    assert found["counts"]["tokens"] == sum(map(len, documents)) == sum(s["tokens"] for s in found["shards"])
    named = {file["name"] for shard in found["shards"] for file in shard["files"]}
    assert {path.name for path in folder.iterdir()} == named | {
        "manifest.json",
        "summary.json",
        "report.html",
    }
    for shard in found["shards"]:
        for file in shard["files"]:
            content = (folder / file["name"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
