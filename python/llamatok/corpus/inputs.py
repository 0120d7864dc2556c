"""What a run reads: files, folders, globs, URLs and Hugging Face datasets, listed in one fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from llamatok.corpus.compression import compression_of, decompressed
from llamatok.corpus.errors import CorpusError, MissingInputError

__all__ = ["Input", "arguments_of", "as_list", "dataset_inputs", "list_inputs"]

#: The kind of input that a name's ending tells, its compression's ending taken off.
SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".csv": "csv", ".tsv": "csv",
    ".txt": "text", ".text": "text", ".md": "text", ".rst": "text", ".html": "text", ".xml": "text",
    ".tex": "text",
}  # fmt: skip

#: Kinds whose files are not compressed as a whole: they compress inside.
COMPRESSED_INSIDE = ("parquet", "arrow")

DATASET = "dataset"


@dataclass(frozen=True)
class Input:
    """One input: a local path or a URL, how to read it, its size as stored, and the argument it came from."""

    path: str
    kind: str
    compression: str | None = None
    size: int | None = None
    argument: str = ""
    dataset: Any = field(default=None, repr=False, compare=False)

    @property
    def is_local(self) -> bool:
        """Whether the path is one of this machine's file system."""
        return not _is_url(self.path)

    @property
    def tabs(self) -> bool:
        """Whether the name says that tabs separate the fields."""
        return compression_of(self.path)[0].lower().endswith(".tsv")

    def open(self) -> BinaryIO:
        """The file as it is stored. Raises `MissingInputError`."""
        try:
            if self.is_local:
                # As bytes: Arrow would encode the name by itself, and not all names are UTF-8.
                return cast(BinaryIO, pa.OSFile(os.fsencode(self.path), "r"))
            filesystem, path = _filesystem(self.path)
            return cast(BinaryIO, filesystem.open(path, "rb"))
        except FileNotFoundError:
            raise self.vanished() from None

    def open_decompressed(self) -> tuple[BinaryIO, Any]:
        """The file as stored, and a stream with `readinto` over its content."""
        if self.is_local and self.compression in ("xz", "zstd"):
            try:
                stored = cast(BinaryIO, open(self.path, "rb"))  # noqa: SIM115
            except FileNotFoundError:
                raise self.vanished() from None
        else:
            stored = self.open()
        return stored, decompressed(stored, self.compression)

    def open_arrow(self) -> Any:
        """The file as an Arrow random access file; a local one is mapped into memory."""
        if not self.is_local:
            return pa.PythonFile(self.open(), mode="r")
        try:
            return pa.memory_map(os.fsencode(self.path), "r")
        except FileNotFoundError:
            raise self.vanished() from None

    def vanished(self) -> MissingInputError:
        """The error of an input that is not there any more."""
        return MissingInputError(
            f"the input is gone: `{self.path}`", "put it back and resume the run, or start anew without it"
        )

    def current_size(self) -> int | None:
        """The size now. Raises `MissingInputError`."""
        if self.kind == DATASET:
            return self.size
        try:
            if self.is_local:
                return os.path.getsize(self.path)
            filesystem, path = _filesystem(self.path)
            size = filesystem.info(path).get("size")
            return None if size is None else int(size)
        except FileNotFoundError:
            raise self.vanished() from None

    def to_json(self) -> dict[str, Any]:
        """The input as plain values, without a dataset."""
        return {
            "path": self.path, "kind": self.kind, "compression": self.compression, "size": self.size,
            "argument": self.argument,
        }  # fmt: skip


def as_list(inputs: Any) -> list[Any]:
    """The arguments, where several were given or one. Raises `CorpusError`."""
    if isinstance(inputs, (str, os.PathLike)) or _is_dataset(inputs):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise CorpusError(f"inputs must be paths, URLs or datasets, not {type(inputs).__name__}")
    return list(inputs)


def arguments_of(inputs: list[Any]) -> list[str]:
    """The arguments as text, to tell whether a run is the same."""
    return [_dataset_input(item).path if _is_dataset(item) else os.fspath(item) for item in inputs]


def dataset_inputs(inputs: list[Any]) -> dict[str, Input]:
    """The inputs that are datasets, by their paths."""
    found = [_dataset_input(item) for item in inputs if _is_dataset(item)]
    return {item.path: item for item in found}


def list_inputs(inputs: list[Any], kind: str = "auto") -> list[Input]:
    """All inputs that `inputs` names, each once: in the order of the arguments, sorted within each.

    A folder gives the files under it whose endings are known (all files where `kind` is given), but no hidden
    ones. Raises `CorpusError` where an argument gives none.
    """
    found: dict[str, Input] = {}
    for argument in inputs:
        if _is_dataset(argument):
            item = _dataset_input(argument)
            found.setdefault(item.path, item)
            continue
        for item in _expand(os.fspath(argument), kind):
            found.setdefault(item.path, item)
    if not found:
        raise CorpusError("no inputs were given")
    return list(found.values())


def _expand(argument: str, kind: str) -> list[Input]:
    if argument == "-":
        raise CorpusError(
            "standard input cannot be read twice, so such a run could not be resumed",
            "name a file, or use `llamatok encode`",
        )
    listing = _remote(argument) if _is_url(argument) else _local(argument)
    named, paths = listing
    items = [_file_input(path, size, argument, kind) for path, size in paths]
    if not named and kind == "auto":
        items = [
            item for item in items if PurePosixPath(compression_of(item.path)[0]).suffix.lower() in SUFFIXES
        ]
    if not items:
        endings = ", ".join(SUFFIXES)
        raise MissingInputError(
            f"no input files: `{argument}`",
            f"files with these endings are taken: {endings}; or name the kind",
        )
    return items


def _local(argument: str) -> tuple[bool, list[tuple[str, int | None]]]:
    """Whether the argument names a file, and the files it gives, with their sizes."""
    if os.path.isdir(argument):
        return False, [(path, os.path.getsize(path)) for path in _walk(argument)]
    if os.path.exists(argument):
        return True, [(argument, os.path.getsize(argument))]
    if glob.has_magic(argument):
        paths = sorted(path for path in glob.glob(argument, recursive=True) if os.path.isfile(path))
        return True, [(path, os.path.getsize(path)) for path in paths]
    raise MissingInputError(f"no such input: `{argument}`")


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(files) if not name.startswith("."))


def _remote(argument: str) -> tuple[bool, list[tuple[str, int | None]]]:
    filesystem, path = _filesystem(argument)
    try:
        if glob.has_magic(path):
            named, paths = True, sorted(filesystem.glob(path))
        elif filesystem.isdir(path):
            named = False
            paths = sorted(p for p in filesystem.find(path) if not PurePosixPath(p).name.startswith("."))
        else:
            named, paths = True, [path]
        return named, [(filesystem.unstrip_protocol(p), _remote_size(filesystem, p)) for p in paths]
    except FileNotFoundError:
        raise MissingInputError(f"no such input: `{argument}`") from None


def _remote_size(filesystem: Any, path: str) -> int | None:
    size = filesystem.info(path).get("size")
    return None if size is None else int(size)


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise CorpusError(
            f"`{url}`: reading URLs needs the package fsspec", "pip install 'llamatok[corpus]'"
        ) from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise CorpusError(f"`{url}`: {error}") from None
    return filesystem, path


def _file_input(path: str, size: int | None, argument: str, kind: str) -> Input:
    stem, compression = compression_of(path)
    if kind == "auto":
        kind = SUFFIXES.get(PurePosixPath(stem.lower()).suffix, "text")
    if kind in COMPRESSED_INSIDE and compression is not None:
        raise CorpusError(
            f"`{path}`: files of kind {kind} compress inside, and are not read from {compression}"
        )
    return Input(path, kind, compression, size, argument)


def _is_url(path: str) -> bool:
    return "://" in path or "::" in path


def _is_dataset(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "datasets"


def _dataset_input(dataset: Any) -> Input:
    name = type(dataset).__name__
    if name in ("DatasetDict", "IterableDatasetDict"):
        raise CorpusError(
            f"a {name} holds several splits: {', '.join(dataset)}", "pass one of them, or each in turn"
        )
    if name != "Dataset":
        raise CorpusError(
            f"datasets.{name} cannot be read from the middle, so such a run could not be resumed"
        )
    return Input(f"dataset:{dataset._fingerprint}", DATASET, None, len(dataset), "dataset", dataset)
