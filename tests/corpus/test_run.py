"""The promises of a run: the same bytes for any number of workers, and after any interruption."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import llamatok.corpus.files
from llamatok import Tokenizer
from llamatok.corpus import CorpusError, OutputError, tokenize
from support.texts import random_texts

from .conftest import TEXTS, expected, manifest, nanogpt, tree, write_jsonl

#: Settings that take every way through the assembler.
WAYS: dict[str, dict[str, Any]] = {
    "one shard": {"format": "megatron"},
    "many shards": {"format": "megatron", "shard_size": 5000},
    "everything": {
        "format": "npy",
        "shard_size": 5000,
        "pack": 64,
        "dedup": True,
        "val_fraction": 0.2,
        "shuffle": True,
        "seed": 3,
    },
    "mds": {"format": "mds", "shard_size": 5000, "val_fraction": 0.3},
    "litdata": {"format": "litdata", "pack": 64, "shard_size": 5000},
    "parquet": {"format": "parquet", "shard_size": 5000, "dedup": True, "shuffle": True},
    "datatrove": {"format": "datatrove", "shard_size": 5000, "min_tokens": 10, "max_tokens": 400},
}


@pytest.fixture
def corpora(tmp_path: Path) -> list[Path]:
    """Three inputs, one with bad lines."""
    first = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    second = write_jsonl(tmp_path / "b.jsonl", random_texts(21, 80))
    with open(second, "ab") as file:
        file.write(b'not json\n{"id": 3}\n{"text": "\xff"}\n{"text": null}\n')
    third = write_jsonl(tmp_path / "c.jsonl", ["Hello world", *random_texts(22, 60)])
    return [first, second, third]


def run(inputs: list[Path], folder: Path, **settings: Any) -> None:
    settings = {"add_eos": True, "block_size": 2048, "progress": False, **settings}
    tokenize(inputs, folder, **settings)


@pytest.mark.parametrize("way", WAYS)
def test_workers_do_not_matter(way: str, corpora: list[Path], tmp_path: Path) -> None:
    run(corpora, tmp_path / "one", workers=1, **WAYS[way])
    run(corpora, tmp_path / "many", workers=7, **WAYS[way])
    assert tree(tmp_path / "one") == tree(tmp_path / "many")
    assert not (tmp_path / "one" / ".llamatok").exists()


class Stop(BaseException):
    """An interruption, as that of a keyboard."""


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    way: str, corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpora, tmp_path / "whole", **WAYS[way])
    chance = random.Random(1)
    attempts = 0
    write, rename = llamatok.corpus.files.AppendFile.write, llamatok.corpus.run.rename

    # Every write and every rename may be the last thing that happens.
    def interrupted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if chance.random() < 0.03:
                raise Stop
            return function(*arguments)

        return call

    while True:
        attempts += 1
        with monkeypatch.context() as patch:
            if attempts < 40:
                patch.setattr(llamatok.corpus.files.AppendFile, "write", interrupted(write))
                patch.setattr(llamatok.corpus.run, "rename", interrupted(rename))
            try:
                run(corpora, tmp_path / "broken", checkpoint_seconds=0.0, **WAYS[way])
            except Stop:
                continue
        break
    assert attempts > 2
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")


KILLED = """
import sys
from llamatok.corpus import tokenize
tokenize(sys.argv[2:], sys.argv[1], format="megatron", shard_size=20_000, add_eos=True, dedup=True,
         val_fraction=0.1, block_size=4096, checkpoint_seconds=0.02, progress=False)
"""


def kill_and_resume(tmp_path: Path, kills: int, seed: int) -> int:
    """Kills runs at random moments until one ends, and compares; gives how many were killed at work."""
    chance = random.Random(seed)
    sources = [write_jsonl(tmp_path / f"{i}.jsonl", random_texts(seed * 100 + i, 1500)) for i in range(3)]
    with open(sources[1], "ab") as file:
        file.write(b"not json\n")
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), *map(str, sources)], start_new_session=True
        )

    def begun(process: subprocess.Popen[bytes], folder: Path) -> bool:
        """Waits until there is a state; whether the process still runs."""
        while process.poll() is None and not (folder / ".llamatok" / "plan.json").exists():
            time.sleep(0.002)
        return process.poll() is None

    process = start(whole)
    assert begun(process, whole)
    started = time.monotonic()
    assert process.wait(timeout=120) == 0
    lasting = time.monotonic() - started
    killed = 0
    while killed < kills:
        process = start(broken)
        if begun(process, broken):
            # After an interruption the state is there at once, and the process needs a while to begin.
            time.sleep(chance.uniform(0.0, lasting * (0.5 if killed == 0 else 2.0)))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        killed += (broken / ".llamatok").exists()
    process = start(broken)
    assert process.wait(timeout=120) == 0
    assert tree(broken) == tree(whole)
    return killed


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_runs_are_resumed(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_fifty_killed_runs_are_resumed(tmp_path: Path) -> None:
    killed = seed = 0
    while killed < 50:
        seed += 1
        (tmp_path / str(seed)).mkdir()
        killed += kill_and_resume(tmp_path / str(seed), kills=5, seed=seed)
        assert seed < 60
    print(f"{killed} runs killed in {seed} series")


def test_a_finished_run_is_not_done_again(corpora: list[Path], tmp_path: Path) -> None:
    run(corpora, tmp_path / "out", format="nanogpt")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    corpora[0].unlink()
    run(corpora, tmp_path / "out", format="nanogpt")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(OutputError, match=r"finished run that differs in: settings\nhint: .*--overwrite"):
        run(corpora, tmp_path / "out", format="nanogpt", add_eos=False)


def test_overwrite_removes_what_the_run_had_made_and_nothing_else(
    corpora: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(corpora, out, format="megatron", shard_size=5000)
    (out / "notes.txt").write_text("mine")
    run(corpora, out, format="nanogpt", overwrite=True)
    names = {path.name for path in out.iterdir()}
    assert names == {
        "train.bin",
        "manifest.json",
        "summary.json",
        "report.html",
        "rejects.jsonl",
        "notes.txt",
    }


def test_a_folder_with_other_things_in_it_is_refused(corpora: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="the output folder is not empty"):
        run(corpora, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()


@pytest.mark.parametrize("url", ["s3://bucket/tokens", "memory://tokens", "file:///data/tokens"])
def test_an_output_that_is_no_local_folder_is_refused(
    url: str, corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=f"`{url}` is a URL: a run writes to a local folder"):
        tokenize(corpora, url, progress=False)
    assert sorted(tmp_path.iterdir()) == before


def test_two_runs_do_not_write_to_one_folder(corpora: list[Path], tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    interrupt(corpora, tmp_path / "out")
    with open(tmp_path / "out" / ".llamatok" / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another run is writing"):
            run(corpora, tmp_path / "out")


def interrupt(inputs: list[Path], folder: Path, **settings: Any) -> None:
    """Leaves a run that was interrupted after some blocks."""
    blocks = 0
    original = llamatok.corpus.run.Run._apply

    def apply(self: Any, block: Any) -> None:
        nonlocal blocks
        if blocks == 3:
            raise Stop
        blocks += 1
        original(self, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llamatok.corpus.run.Run, "_apply", apply)
        with pytest.raises(Stop):
            run(inputs, folder, **settings)
    assert (folder / ".llamatok" / "checkpoint.json").exists()


def test_another_run_does_not_take_up_an_interrupted_one(corpora: list[Path], tmp_path: Path) -> None:
    interrupt(corpora, tmp_path / "out")
    with pytest.raises(OutputError, match="holds a run that was interrupted"):
        run(corpora, tmp_path / "out", resume=False)
    with pytest.raises(OutputError, match=r"differs in: add_eos \(True, now False\)"):
        run(corpora, tmp_path / "out", add_eos=False)
    with pytest.raises(OutputError, match="differs in: the inputs"):
        run(corpora[:2], tmp_path / "out")
    run(corpora, tmp_path / "out")
    run(corpora, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_shuffle_keeps_every_document(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"document {i}" for i in range(3000)]
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run([source], tmp_path / name, format="npy", shuffle=True, seed=seed)
        import numpy as np

        offsets = np.load(tmp_path / name / "train.offsets.npy")
        tokens = np.load(tmp_path / name / "train.npy")
        orders.append([tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)])
    plain = expected(tokenizer, texts)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(plain)
    # A document's neighbours are others than before, all over the file.
    places = [plain.index(ids) for ids in orders[0][:200]]
    assert len({place // 300 for place in places}) == 10
    assert sum(b == a + 1 for a, b in itertools.pairwise(places)) < 5


def test_many_buckets_shuffle_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamatok.corpus import shuffle

    source = write_jsonl(tmp_path / "a.jsonl", [f"document {i}" for i in range(2000)])
    monkeypatch.setattr(shuffle, "BUCKET_BYTES", 2000)
    monkeypatch.setattr(shuffle, "KEPT_BYTES", 3000)
    run([source], tmp_path / "out", format="nanogpt", shuffle=True)
    run([source], tmp_path / "plain", format="nanogpt")
    found, plain = nanogpt(tmp_path / "out"), nanogpt(tmp_path / "plain")
    assert found != plain
    assert sorted(found) == sorted(plain)


def test_dedup_keeps_the_first(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = ["a", "b", "a", "c", "b", "a", "", ""] * 50
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    run([source], tmp_path / "out", format="nanogpt", dedup=True, block_size=1024)
    assert nanogpt(tmp_path / "out") == [id for ids in expected(tokenizer, ["a", "b", "c"]) for id in ids]
    assert manifest(tmp_path / "out")["counts"]["duplicates"] == len(texts) - 4


def test_seen_hashes_against_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from llamatok.corpus import dedup

    monkeypatch.setattr(dedup, "FILE_RUN", 500)
    monkeypatch.setattr(dedup, "MERGED_AT_ONCE", 200)
    chance = np.random.default_rng(5)
    known: set[tuple[int, int]] = set()
    seen = dedup.SeenHashes(str(tmp_path))
    for step in range(200):
        # Few first halves, so that many differ in the second only.
        hashes = chance.integers(0, 60, (chance.integers(0, 60), 2), np.uint64)
        hashes[:, 0] *= np.uint64((1 << 64) // 60)
        told = seen.add(hashes) if len(hashes) else np.zeros(0, bool)
        for pair, is_new in zip(map(tuple, hashes.tolist()), told.tolist(), strict=True):
            assert is_new == (pair not in known)
            known.add(pair)
        if step % 50 == 49:
            length = seen.length
            seen.close()
            seen = dedup.SeenHashes(str(tmp_path), length)
    seen.close()
    assert any(path.name.startswith("seen-") for path in tmp_path.iterdir())
    assert length == 16 * len(known)


def test_the_split_is_by_text_or_by_id(tmp_path: Path) -> None:
    texts = [f"text {i % 500}" for i in range(2000)]
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    run([source], tmp_path / "text", format="nanogpt", val_fraction=0.25)
    splits = manifest(tmp_path / "text")["splits"]
    # The same text is always on the same side.
    assert splits["val"]["documents"] % 4 == 0
    assert 0.2 < splits["val"]["documents"] / 2000 < 0.3
    run([source], tmp_path / "id", format="nanogpt", val_fraction=0.25, id_key="id")
    assert manifest(tmp_path / "id")["splits"]["val"]["documents"] % 4 != splits["val"]["documents"]
    # Other documents around it do not change a document's side.
    write_jsonl(tmp_path / "b.jsonl", ["new"] * 100 + texts)
    run([tmp_path / "b.jsonl"], tmp_path / "more", format="nanogpt", val_fraction=0.25)
    more = manifest(tmp_path / "more")["splits"]["val"]["documents"]
    assert more - splits["val"]["documents"] in (0, 100)


def test_lengths(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    plain = expected(tokenizer, TEXTS)
    run([source], tmp_path / "drop", format="nanogpt", min_tokens=5, max_tokens=60)
    kept = [ids for ids in plain if 5 <= len(ids) <= 60]
    assert nanogpt(tmp_path / "drop") == [id for ids in kept for id in ids]
    counts = manifest(tmp_path / "drop")["counts"]
    assert counts["too_short"] == sum(len(ids) < 5 for ids in plain)
    assert counts["too_long"] == sum(len(ids) > 60 for ids in plain)
    run([source], tmp_path / "cut", format="nanogpt", max_tokens=60, long_documents="truncate")
    cut = [ids if len(ids) <= 60 else [*ids[:59], 2] for ids in plain]
    assert nanogpt(tmp_path / "cut") == [id for ids in cut for id in ids]


def test_bos_and_eos(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    for bos in (False, True):
        for eos in (False, True):
            folder = tmp_path / f"{bos}{eos}"
            run([source], folder, format="nanogpt", add_bos=bos, add_eos=eos)
            assert nanogpt(folder) == [id for ids in expected(tokenizer, TEXTS, bos, eos) for id in ids]


def test_settings_are_checked() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"format": "bin"}, "format is not known: `bin`\nhint: one of megatron, nanogpt"),
        ({"val_fraction": 1.5}, "val_fraction must be at least 0 and below 1"),
        ({"pack": 1}, "pack must be between"),
        ({"shard_size": "big"}, "shard_size is not a size: `big`\nhint: write it as 500MB"),
        ({"columns": ["a"]}, "has no room for source columns"),
        ({"max_tokens": 3, "min_tokens": 5}, "max_tokens must be at least"),
        ({"separator": ""}, "separator is empty"),
        ({"workers": 0}, "workers must be at least 1"),
    ]
    for settings, message in cases:
        with pytest.raises(CorpusError) as caught:
            tokenize("nothing", "nowhere", **settings)
        assert message in str(caught.value)


def test_summary_and_report(corpora: list[Path], tmp_path: Path) -> None:
    report = tokenize(corpora, tmp_path / "out", format="nanogpt", add_eos=True, progress=False)
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["documents"] == report.documents == sum(count for _, count in report.length_histogram)
    assert summary["rejected"] == 4 == sum(report.reject_reasons.values())
    assert [source["source"] for source in summary["sources"]] == [str(path) for path in corpora]
    assert 0.1 < summary["sources"][0]["tokens_per_byte"] < 2
    assert {"read", "parse", "tokenize", "write"} <= set(summary["stage_seconds"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "no key `text`" in page
