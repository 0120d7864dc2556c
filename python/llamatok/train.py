"""Train a tokenizer in Llama's layout and settings from your own text.

The training itself is the sentencepiece library's; this module reads the documents, holds the settings, adds
the runs of spaces that Llama's vocabulary has, and writes the file. It needs the extra ``llamatok[train]``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

__all__ = ["train"]

SPACE = "\u2581"
LOWEST_SCORE = -1e9
UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
FIRST_MERGE = 3 + 256

# Where Llama 2's vocabulary has its runs of ▁: (place counted from the first merge, length of the run).
RUN_PLACES = (
    (0, 2), (9, 4), (49, 8), (159, 5), (203, 16), (280, 6), (373, 12), (536, 13), (706, 10), (1410, 14),
    (1419, 3), (3727, 9), (4447, 7), (9392, 11), (18625, 15),
)  # fmt: skip
LONGEST_RUN = 16

# What `train` decides itself: an option of these names would contradict the file it promises to write.
RESERVED = frozenset(
    {
        "input", "sentence_iterator", "model_prefix", "model_writer", "model_type", "input_format",
        "unk_id", "bos_id", "eos_id", "unk_piece", "bos_piece", "eos_piece", "add_dummy_prefix",
        "remove_extra_whitespaces", "normalization_rule_name", "normalization_rule_tsv",
        "allow_whitespace_only_pieces", "byte_fallback", "split_by_whitespace", "treat_whitespace_as_suffix",
    }
)  # fmt: skip


def train(
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    vocab_size: int = 32_000,
    text_key: str | None = None,
    character_coverage: float = 0.99995,
    split_digits: bool = True,
    max_sentence_length: int = 4192,
    longest_space_run: int = LONGEST_RUN,
    num_threads: int | None = None,
    verbose: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train a SentencePiece BPE model as Llama's was and write it to ``output``.

    Args:
        inputs: Files of text (``.txt`` or any other name: one sentence a line) or of JSON documents
            (``.jsonl``), each also as ``.gz`` or ``.zst``.
        output: The model file. It appears whole or not at all.
        vocab_size: Number of pieces, all counted.
        text_key: The field that holds the text of a JSON document ("text" if not given). If given, every
            input is read as JSONL, whatever its name.
        character_coverage: Share of the characters of the text that become pieces; others are left to bytes.
        split_digits: Every digit is a piece of its own.
        max_sentence_length: Longer lines (in bytes) are left out by the trainer; the report counts them.
        longest_space_run: Runs of 2 to this many spaces become pieces (Llama 2: 16; 1: none).
        num_threads: Threads of the trainer; the result does not depend on it.
        verbose: Let the trainer log to standard error.
        **more: Further options of ``sentencepiece.SentencePieceTrainer.train``.

    Returns:
        A report: path, sha256, vocab_size, the numbers of documents, lines, bytes and omitted lines, the
        options and the version of sentencepiece.

    Raises:
        ImportError: sentencepiece or protobuf is not installed.
        ValueError: A setting or an input cannot be used; the message says which.
        KeyboardInterrupt: At once while documents are read; while the library merges, when it has done so.
    """
    sentencepiece, protobuf = _trainer()
    paths = [Path(os.fspath(path)) for path in _as_list(inputs)]
    _check(paths, vocab_size, character_coverage, max_sentence_length, longest_space_run, num_threads, more)

    runs = [(place, length) for place, length in RUN_PLACES if length <= longest_space_run]
    options: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": vocab_size - len(runs),
        "character_coverage": character_coverage,
        "split_digits": split_digits,
        "max_sentence_length": max_sentence_length,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "allow_whitespace_only_pieces": False,  # runs are added below, with the lowest score
        "unk_id": UNK_ID,
        "bos_id": BOS_ID,
        "eos_id": EOS_ID,
        "pad_id": -1,
        "unk_surface": " \u2047 ",
        **more,
    }
    if num_threads is not None:
        options["num_threads"] = num_threads

    lines = _Lines(paths, text_key, max_sentence_length)
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, minloglevel=0 if verbose else 2, **options
        )
    except (RuntimeError, OSError) as error:
        if lines.error is not None:
            raise lines.error from None
        if found := re.search(r"Vocabulary size too high .* a value <= (\d+)", str(error)):
            # The trainer counts without the runs of spaces that are added below.
            most = int(found[1]) + len(runs)
            raise ValueError(
                f"vocab_size must be at most {most} for these texts, not {vocab_size}"
            ) from error
        raise ValueError(f"training failed: {error}") from error
    if lines.error is not None:
        raise lines.error

    model = protobuf.ModelProto()
    model.ParseFromString(written.getvalue())
    _add_space_runs(model, runs)
    data = model.SerializeToString(deterministic=True)
    sentencepiece.SentencePieceProcessor(model_proto=data)
    target = Path(os.fspath(output))
    _write_atomically(target, data)
    return {
        "path": str(target),
        "sha256": hashlib.sha256(data).hexdigest(),
        "vocab_size": len(model.pieces),
        "documents": lines.documents,
        "lines": lines.lines,
        "bytes": lines.bytes,
        "lines_too_long": lines.too_long,
        "sentencepiece": sentencepiece.__version__,
        "options": {key: value for key, value in options.items() if key != "num_threads"},
    }


def _trainer() -> tuple[ModuleType, ModuleType]:
    try:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise ImportError(
            f"training needs sentencepiece and protobuf ({error}): pip install 'llamatok[train]'"
        ) from error
    return sentencepiece, sentencepiece_model_pb2


def _as_list(inputs: Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    if isinstance(inputs, (str, os.PathLike)):
        return [inputs]
    return list(inputs)


def _check(
    paths: list[Path],
    vocab_size: int,
    character_coverage: float,
    max_sentence_length: int,
    longest_space_run: int,
    num_threads: int | None,
    more: dict[str, Any],
) -> None:
    if not paths:
        raise ValueError("no input files were given")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(2, "No such input file", str(path))
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name the files in it")
    if not 1 <= longest_space_run <= LONGEST_RUN:
        raise ValueError(f"longest_space_run must be between 1 and {LONGEST_RUN}, not {longest_space_run}")
    least = FIRST_MERGE + longest_space_run
    if vocab_size <= least:
        raise ValueError(
            f"vocab_size must be more than {least} (three special pieces, 256 bytes, the runs of spaces), "
            f"not {vocab_size}"
        )
    if not 0.98 <= character_coverage <= 1.0:
        raise ValueError(f"character_coverage must be between 0.98 and 1.0, not {character_coverage}")
    if max_sentence_length < 1:
        raise ValueError(f"max_sentence_length must be positive, not {max_sentence_length}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be positive, not {num_threads}")
    taken = sorted(RESERVED.intersection(more))
    if taken:
        raise ValueError(
            f"these options are part of Llama's layout and cannot be changed: {', '.join(taken)}"
        )


class _Lines:
    """The lines of all documents, with counts; keeps the first error, which the trainer would hide."""

    def __init__(self, paths: list[Path], text_key: str | None, longest: int) -> None:
        self.paths = paths
        self.text_key = text_key
        self.longest = longest
        self.documents = self.lines = self.bytes = self.too_long = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for path in self.paths:
                for text in _documents(path, self.text_key):
                    self.documents += 1
                    yield from self._lines_of(text)
            if self.lines == 0:
                raise ValueError(f"no text in {', '.join(map(str, self.paths))}")
        except GeneratorExit:
            raise
        except BaseException as error:  # Ctrl-C, too
            self.error = error
            raise

    def _lines_of(self, text: str) -> Iterator[str]:
        for line in text.removeprefix("\ufeff").split("\n"):
            line = line.rstrip("\r").replace("\0", "")
            if not line:
                continue
            size = len(line.encode())
            self.lines += 1
            self.bytes += size
            if size > self.longest:
                self.too_long += 1
            yield line


def _documents(path: Path, text_key: str | None) -> Iterator[str]:
    as_json = text_key is not None or _plain_suffix(path) in (".jsonl", ".ndjson")
    key = "text" if text_key is None else text_key
    with _open(path) as lines:
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                if not as_json:
                    yield line
                elif line.strip():
                    yield _text_of(line, key, f"{path}, line {number}")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, after line {number}: not UTF-8: {error.reason}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}, after line {number}: damaged gzip data: {error}") from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise ValueError(f"{path}, after line {number}: damaged zstandard data: {error}") from None


def _text_of(line: str, key: str, place: str) -> str:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON: {error}") from None
    text = document.get(key) if isinstance(document, dict) else None
    if text is None:
        found = (
            f"the fields {', '.join(map(repr, document))}"
            if isinstance(document, dict)
            else line.strip()[:40]
        )
        raise ValueError(f"{place}: no field {key!r} in this document; found {found}")
    if isinstance(text, str):
        if text.isascii() or _is_encodable(text):
            return text
        raise ValueError(f"{place}: the field {key!r} holds a lone surrogate")
    raise ValueError(f"{place}: the field {key!r} holds {type(text).__name__}, not text")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain_suffix(path: Path) -> str:
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in (".gz", ".zst") else name.suffix


def _open(path: Path) -> IO[str]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    if suffix == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise ImportError(f"{path} needs the zstandard library: pip install zstandard") from error
        text: IO[str] = zstandard.open(path, "rt", encoding="utf-8", newline="\n")
        return text
    return open(path, encoding="utf-8", newline="\n")


def _add_space_runs(model: Any, runs: list[tuple[int, int]]) -> None:
    """Put runs of ▁ among the merges, where Llama 2 has them, and give every piece Llama's score.

    The runs and ▁ itself share the lowest score, so that a word takes its space before a run does.
    """
    pieces = list(model.pieces)
    normal = [index for index, piece in enumerate(pieces) if piece.type == piece.NORMAL]
    start = normal[0]
    merges = sum(len(pieces[index].piece) > 1 for index in normal)
    for place, length in runs:
        piece = type(pieces[0])(piece=SPACE * length)
        pieces.insert(start + min(place, merges), piece)
        merges += 1
    rank = 0
    for piece in pieces[start:]:
        if piece.type != piece.NORMAL:
            continue
        piece.score = LOWEST_SCORE if not piece.piece.strip(SPACE) else -float(rank)
        rank += 1
    del model.pieces[:]
    model.pieces.extend(pieces)
    model.trainer_spec.vocab_size = len(pieces)
    model.trainer_spec.allow_whitespace_only_pieces = True
    for machine_dependent in ("input", "model_prefix", "num_threads"):
        model.trainer_spec.ClearField(machine_dependent)


def _write_atomically(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
