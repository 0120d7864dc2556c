"""The datasets give back what is in the shards of every format, to any number of workers and ranks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llamatok import Tokenizer
from llamatok.corpus import tokenize

from .conftest import TEXTS, expected

torch = pytest.importorskip("torch")

from llamatok.data import Collator, StreamingTokenDataset, TokenDataset  # noqa: E402

# From Python 3.12 on, of any fork beside threads, as a DataLoader's workers may be made.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

FORMATS = ("megatron", "nanogpt", "datatrove", "litdata", "mds", "parquet", "arrow", "npy")


def make(corpus: Path, folder: Path, form: str, **settings: Any) -> Path:
    tokenize(
        corpus,
        folder,
        format=form,
        add_eos=True,
        shard_size=4000,
        block_size=4096,
        progress=False,
        **settings,
    )
    return folder


def lists(dataset: Any) -> list[list[int]]:
    return [dataset[i]["input_ids"].tolist() for i in range(len(dataset))]


@pytest.mark.parametrize("form", FORMATS)
def test_documents(form: str, corpus: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = make(corpus, tmp_path / "out", form)
    if form == "nanogpt":
        with pytest.raises(ValueError, match="does not tell where documents begin"):
            TokenDataset(folder)
        return
    dataset = TokenDataset(folder)
    full = [ids for ids in expected(tokenizer, TEXTS) if ids]
    assert lists(dataset) == full
    assert dataset[-1]["input_ids"].tolist() == full[-1]
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert lists(pickle.loads(pickle.dumps(dataset))) == full


@pytest.mark.parametrize("form", FORMATS)
def test_packed_sequences(form: str, corpus: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    dataset = TokenDataset(make(corpus, tmp_path / "out", form, pack=32))
    flat = [id for ids in expected(tokenizer, TEXTS) for id in ids]
    found = [id for ids in lists(dataset) for id in ids]
    assert found == flat[: len(flat) // 32 * 32]
    starts = [i for i, id in enumerate(found) if i % 32 == 0 or found[i - 1] == 2]
    places = [place for i in range(len(dataset)) for place in dataset[i]["position_ids"].tolist()]
    assert [i for i, place in enumerate(places) if place == 0] == starts


@pytest.mark.parametrize("form", ["nanogpt", "megatron", "mds"])
def test_windows(form: str, corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", form)
    dataset = TokenDataset(folder, sequence_length=50)
    assert {len(ids) for ids in lists(dataset)} == {50}
    assert len(dataset) > 20


def test_order_is_the_same_for_any_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=16)
    runs = []
    for workers in (0, 1, 2):
        dataset = StreamingTokenDataset(folder, batch_size=4, seed=5)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, collate_fn=Collator(), num_workers=workers
        )
        runs.append([batch["input_ids"].tolist() for batch in loader])
    assert runs[0] == runs[1] == runs[2]
    rows = sorted(row for batch in runs[0] for row in batch)
    assert rows == sorted(lists(TokenDataset(folder)))
    assert [row for batch in runs[0] for row in batch] != lists(TokenDataset(folder))


def test_ranks_share_an_epoch(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=16)
    for shuffle in (False, True):
        parts = [
            [
                item["input_ids"].tolist()
                for item in StreamingTokenDataset(folder, shuffle=shuffle, rank=r, world_size=3)
            ]
            for r in range(3)
        ]
        whole = lists(TokenDataset(folder))
        assert {len(part) for part in parts} == {len(whole) // 3}
        joined = sorted(row for part in parts for row in part)
        left_out = list(whole)
        for row in joined:
            left_out.remove(row)
        assert len(left_out) == len(whole) % 3
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (StreamingTokenDataset(folder).rank, StreamingTokenDataset(folder).world_size) == (1, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_place_is_taken_up_again(workers: int, corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=16)

    def batches(dataset: Any) -> Any:
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, collate_fn=Collator(), num_workers=workers
        )
        return (batch["input_ids"].tolist() for batch in loader)

    whole = list(batches(StreamingTokenDataset(folder, batch_size=4)))
    first = StreamingTokenDataset(folder, batch_size=4)
    taken = batches(first)
    begun = [next(taken) for _ in range(5)]
    state = first.state_dict(batches=5 if workers else None)
    del taken
    second = StreamingTokenDataset(folder, batch_size=4)
    second.load_state_dict(state)
    assert begun + list(batches(second)) == whole
    with pytest.raises(ValueError, match="another seed"):
        StreamingTokenDataset(folder, seed=9).load_state_dict(state)


def test_a_place_lies_within_the_epoch(corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "npy", pack=16)
    dataset = StreamingTokenDataset(folder, batch_size=4)
    batches = -(-len(dataset) // 4)
    # After the last batch, which may be a short one, nothing is left of this epoch.
    end = dataset.state_dict(batches=batches)
    assert end["position"] == len(dataset)
    dataset.load_state_dict(end)
    assert list(dataset) == []
    assert len(list(dataset)) == len(dataset)
    for wrong in (batches + 1, 100 * batches, -1):
        with pytest.raises(ValueError, match=f"batches must be from 0 to {batches}, .*, not {wrong}"):
            StreamingTokenDataset(folder, batch_size=4).state_dict(batches=wrong)
    with pytest.raises(ValueError, match="the state is at item"):
        dataset.load_state_dict({**end, "position": len(dataset) + 1})


def test_epochs_differ(corpus: Path, tmp_path: Path) -> None:
    dataset = StreamingTokenDataset(make(corpus, tmp_path / "out", "npy", pack=16))
    epochs = [[item["input_ids"].tolist() for item in dataset] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


def test_collator(tmp_path: Path) -> None:
    items = [{"input_ids": torch.tensor([5, 6, 7])}, {"input_ids": torch.tensor([8])}]
    batch = Collator(pad_id=9)(items)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    packed = [{"input_ids": torch.tensor([5, 6, 7, 8]), "position_ids": torch.tensor([0, 1, 0, 1])}]
    batch = Collator()(packed)
    assert batch["document_ids"].tolist() == [[0, 0, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8]]
    assert Collator(mask_first=False)(packed)["labels"].tolist() == [[5, 6, 7, 8]]
    with pytest.raises(ValueError, match="at least one item"):
        Collator()([])


def test_faults(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TokenDataset(tmp_path)
    folder = make(corpus, tmp_path / "out", "nanogpt")
    with pytest.raises(ValueError, match="no split 'val'"):
        TokenDataset(folder, "val", sequence_length=8)
    shard = folder / "train_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match="the manifest says"):
        TokenDataset(folder, sequence_length=8)[0]


def rewritten(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


#: The file that says where documents begin, and a place in it of a number of so many bytes.
INDEXES = {
    "megatron": ("train_00000_text_document.idx", 18, 8),
    "datatrove": ("00000_tokens.ds.index", 0, 8),
    "litdata": ("chunk-0-0.bin", 0, 4),
    "mds": ("shard.00000.mds", 8, 4),
    "npy": ("train-00000.offsets.npy", 128 + 8, 8),
}


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**32 - 1, 2**59, 2**63, 2**64 - 1])
@pytest.mark.parametrize("form", list(INDEXES))
def test_damaged_indexes_are_refused(form: str, number: int, corpus: Path, tmp_path: Path) -> None:
    """Documents that begin elsewhere are not given out as if they were whole."""
    folder = make(corpus, tmp_path / "out", form)
    name, place, width = INDEXES[form]
    content = bytearray((folder / name).read_bytes())
    content[place : place + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"00000.* damaged|chunk-0-0.* damaged"):
        TokenDataset(folder)


@pytest.mark.parametrize("offset", [-1, -(2**40), 2**31, 2**40])
def test_arrow_files_whose_offsets_leave_them_are_refused(offset: int, corpus: Path, tmp_path: Path) -> None:
    """Arrow's reader takes offsets as they are, and ended the process when they were used."""
    folder = make(corpus, tmp_path / "out", "arrow")
    path = folder / "train-00000.arrow"
    with pa.ipc.open_file(path) as reader:
        offsets = reader.get_batch(0).column("input_ids").offsets.to_numpy().astype("<i4").tobytes()
    content = path.read_bytes()
    place = content.index(offsets) + len(offsets) - 4
    path.write_bytes(content[:place] + (offset % 2**32).to_bytes(4, "little") + content[place + 4 :])
    with pytest.raises(ValueError, match=r"train-00000\.arrow.* damaged"):
        TokenDataset(folder)


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../outside.bin", "a/../../outside.bin", "link.bin", "", 3]
)
def test_a_manifest_cannot_lead_out_of_its_folder(name: Any, corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "nanogpt")
    (tmp_path / "outside.bin").write_bytes((folder / "train_00000.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    rewritten(folder, lambda manifest: manifest["shards"][0]["files"][0].update(name=name))
    with pytest.raises(ValueError, match=r"manifest\.json.*not within the folder"):
        TokenDataset(folder, sequence_length=8)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("shards"),
        lambda manifest: manifest.update(shards=None),
        lambda manifest: manifest.update(settings=[]),
        lambda manifest: manifest.update(format="pickle"),
        lambda manifest: manifest.update(dtype="O"),
        lambda manifest: manifest.update(dtype=["<u2"]),
        lambda manifest: manifest["settings"].update(pack=0),
        lambda manifest: manifest["settings"].update(pack="8"),
        lambda manifest: manifest["shards"][0].update(tokens=-8),
        lambda manifest: manifest["shards"][0].update(tokens=10**30),
        lambda manifest: manifest["shards"][0].update(tokens=1e400),
        lambda manifest: manifest["shards"][0].update(files=[]),
    ],
)
def test_manifests_that_are_none_are_refused(change: Any, corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "nanogpt")
    rewritten(folder, change)
    with pytest.raises(ValueError, match=r"manifest\.json` is no manifest of a run, or is damaged"):
        TokenDataset(folder, sequence_length=8)
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        TokenDataset(folder, sequence_length=8)


def test_a_training_loop_in_five_lines(corpus: Path, tmp_path: Path) -> None:
    folder = make(corpus, tmp_path / "out", "megatron")
    model = torch.nn.Embedding(32000, 4)
    dataset = StreamingTokenDataset(folder, sequence_length=16, batch_size=8)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=8, collate_fn=Collator()):
        model(batch["input_ids"]).sum().backward()
    assert model.weight.grad is not None
