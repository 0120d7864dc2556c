"""The README's Python runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import llamatok

README = Path(__file__).parents[1] / "README.md"


def test_python_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    model = Path(llamatok.__file__).parent / "data" / "default.model"
    shutil.copy(model, tmp_path / "tokenizer.model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = re.findall(
        r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(examples) == 6
    for example in examples:
        exec(compile(example, str(README), "exec"), names)
    tokens = names["tokens"]
    assert tokens.to_pylist() == names["tok"].encode_batch(["Hello world", "Grüße"]).to_lists()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "Hello world\n"
