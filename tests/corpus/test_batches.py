"""The callable for jobs of other engines, and the examples that use it."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llamatok import Tokenizer
from llamatok.corpus import BatchTokenizer

from .conftest import TEXTS, write_jsonl

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def ids(tokenizer: Tokenizer) -> list[list[int]]:
    return [tokenizer.encode(text, add_eos=True) for text in TEXTS]


def test_arrow_tables_and_batches(ids: list[list[int]]) -> None:
    tokenize = pickle.loads(pickle.dumps(BatchTokenizer(add_eos=True)))
    table = pa.table({"n": range(len(TEXTS)), "text": TEXTS})
    found = tokenize(table)
    assert found.schema.names == ["n", "text", "input_ids"]
    assert found.column("input_ids").to_pylist() == ids
    batch = tokenize(table.to_batches()[0].slice(3, 9))
    assert isinstance(batch, pa.RecordBatch)
    assert batch.column("input_ids").to_pylist() == ids[3:12]
    assert tokenize(table.slice(0, 0)).num_rows == 0


def test_dicts_of_arrays_and_data_frames(ids: list[list[int]]) -> None:
    tokenize = BatchTokenizer(text_column="body", output_column="ids", add_eos=True)
    found = tokenize({"body": np.array(TEXTS, object)})
    assert [row.tolist() for row in found["ids"]] == ids
    pandas = pytest.importorskip("pandas")
    frame = tokenize(pandas.DataFrame({"body": TEXTS}))
    assert [row.tolist() for row in frame["ids"]] == ids
    assert len(tokenize({"body": np.array([], object)})["ids"]) == 0


def test_a_tokenizer_by_its_path_pickles_small(tmp_path: Path) -> None:
    from support.locations import DEFAULT_MODEL

    by_path = BatchTokenizer(DEFAULT_MODEL)
    by_path.arrays(["load it"])
    assert len(pickle.dumps(by_path)) < 1000
    assert pickle.loads(pickle.dumps(by_path)).arrays(["a"]).to_pylist() == by_path.arrays(["a"]).to_pylist()


@pytest.mark.parametrize(
    "engine",
    [
        "dask",
        "daft",
        pytest.param("ray", marks=pytest.mark.slow),
        pytest.param("spark", marks=pytest.mark.slow),
    ],
)
def test_examples(engine: str, tmp_path: Path, ids: list[list[int]]) -> None:
    package = {"spark": "pyspark"}.get(engine, engine)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    source = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    command = [sys.executable, EXAMPLES / f"corpus_{engine}.py", str(source), str(tmp_path / "out")]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out")
    found = dict(zip(table.column("id").to_pylist(), table.column("input_ids").to_pylist(), strict=True))
    assert found == dict(enumerate(ids))


def test_the_training_example(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from llamatok.corpus import tokenize

    source = write_jsonl(tmp_path / "a.jsonl", TEXTS * 3)
    tokenize(source, tmp_path / "tokens", format="nanogpt", add_eos=True, progress=False)
    command = [sys.executable, EXAMPLES / "corpus_training.py", str(tmp_path / "tokens")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loss: ")
