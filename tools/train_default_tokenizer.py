"""Train the tokenizer that llamatok carries: ``python tools/train_default_tokenizer.py CORPUS.jsonl.zst``.

The result depends only on the corpus and the version of sentencepiece; its sha256 stands in
``python/llamatok/data/README.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def load_train() -> Callable[..., dict[str, Any]]:
    """The trainer of the package, straight from its file: the package itself may not be built yet."""
    spec = importlib.util.spec_from_file_location("llamatok_train", ROOT / "python" / "llamatok" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    train: Callable[..., dict[str, Any]] = module.train
    return train


def wanted_lines(corpus: Path) -> Iterator[str]:
    """The documents of the corpus, less those whose text is damaged or a joke.

    C1 control characters betray a text read in the wrong encoding; one document is a Bible in cat spelling,
    which would teach the vocabulary misspelt words.
    """
    import zstandard

    with corpus.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            text = json.loads(line)["text"]
            if not re.search("[\x80-\x9f]", text) and not text.startswith("Oh hai. In teh beginnin"):
                yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("corpus", type=Path, help="documents as JSONL, with the text in the field 'text'")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "python" / "llamatok" / "data" / "default.model"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "corpus.jsonl")
        with wanted.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(wanted_lines(arguments.corpus))
        report = load_train()([wanted], arguments.output, vocab_size=32_000)
    print(json.dumps(report, indent=2, ensure_ascii=False))
    print(f"sha256 {report['sha256']}")


if __name__ == "__main__":
    main()
