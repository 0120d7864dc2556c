"""Inputs (files, standard input, compressed or not) cut into documents, and outputs that appear complete.

Text is bytes throughout: the tokenizer takes UTF-8, and nothing here decodes what it need not look into.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO

from llamatok._frames import LARGEST_ZSTD_WINDOW, Frame, Frames
from llamatok.cli.errors import CommandError, InputError

STANDARD_INPUT = "-"
READ_SIZE = 1 << 20

#: A batch ends with the document that reaches either bound, so that memory does not grow with the input.
BATCH_BYTES = 8 << 20
BATCH_DOCUMENTS = 1 << 16


@dataclass(frozen=True)
class DocumentFormat:
    """How an input is cut into documents: JSON lines with `text_key`, else lines, else the whole input."""

    lines: bool = False
    text_key: str | None = None


@dataclass
class Batch:
    """Documents, and what to call each (`file` or `file:line`)."""

    texts: list[bytes] = field(default_factory=list)
    places: list[tuple[str, int | None]] = field(default_factory=list)
    size: int = 0

    def add(self, text: bytes, name: str, line: int | None) -> None:
        """Appends a document."""
        self.texts.append(text)
        self.places.append((name, line))
        self.size += len(text)

    def __len__(self) -> int:
        return len(self.texts)


def place(name: str, line: int | None) -> str:
    """`name:line`, or `name` for a whole input."""
    return name if line is None else f"{name}:{line}"


class Inputs:
    """The inputs of a command, read one after the other."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths) or [STANDARD_INPUT]
        self._finished = 0
        self._current: IO[bytes] | None = None
        self.total = self._total_size()

    def _total_size(self) -> int | None:
        """The size of all inputs as stored, where each is a regular file."""
        total = 0
        for path in self._paths:
            if path == STANDARD_INPUT:
                return None
            try:
                status = os.stat(path)
            except OSError:
                return None
            if not stat.S_ISREG(status.st_mode):
                return None
            total += status.st_size
        return total

    @property
    def done(self) -> int:
        """How many bytes of `total` have been read."""
        return self._finished + (self._current.tell() if self._current is not None else 0)

    @property
    def interactive(self) -> bool:
        """Whether a person types one of the inputs."""
        return STANDARD_INPUT in self._paths and sys.stdin.isatty()

    def open_each(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each input's name and content, decompressed."""
        for path in self._paths:
            if path == STANDARD_INPUT:
                yield "<stdin>", sys.stdin.buffer
                continue
            with open(path, "rb") as stored:
                self._current = stored if self.total is not None else None
                with _decompressed(path, stored) as content:
                    yield path, content
                if self._current is not None:
                    self._current = None
                    self._finished += os.path.getsize(path)

    def batches(self, form: DocumentFormat) -> Iterator[Batch]:
        """The documents of all inputs, in bounded batches."""
        most_documents = 1 if self.interactive else BATCH_DOCUMENTS
        batch = Batch()
        for name, content in self.open_each():
            for text, line in _documents(name, content, form):
                batch.add(text, name, line)
                if batch.size >= BATCH_BYTES or len(batch) >= most_documents:
                    yield batch
                    batch = Batch()
        if len(batch):
            yield batch


def _documents(name: str, content: BinaryIO, form: DocumentFormat) -> Iterator[tuple[bytes, int | None]]:
    if form.text_key is not None:
        for number, line in enumerate(content, 1):
            if line.strip():
                yield text_of_json(line, form.text_key, place(name, number)), number
    elif form.lines:
        for number, line in enumerate(content, 1):
            yield line.removesuffix(b"\n"), number
    else:
        yield content.read(), None


def parse_json(line: bytes, where: str) -> Any:
    """The value of a line of JSON."""
    try:
        return json.loads(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8 at byte {error.start}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError(f"{where}: not valid JSON: nested too deeply") from None
    except ValueError as error:  # a number with too many digits
        raise InputError(f"{where}: not valid JSON: {error}") from None


def text_of_json(line: bytes, key: str, where: str) -> bytes:
    """The text under `key` of a line of JSON."""
    value = record = parse_json(line, where)
    if isinstance(record, dict) and key in record:
        value = record[key]
    else:
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                shown = ", ".join(f"`{name}`" for name in record) if isinstance(record, dict) else ""
                hint = f"the keys of this line are: {shown}" if shown else "each line must be a JSON object"
                raise InputError(f"{where}: no key `{key}`", hint)
            value = value[part]
    if not isinstance(value, str):
        raise InputError(f"{where}: `{key}` is not a string but {_json_type(value)}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        surrogate = ord(value[error.start])
        message = f"{where}: `{key}` has a lone surrogate, U+{surrogate:04X}, at character {error.start}"
        raise InputError(message) from None


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names[type(value)]


def _decompressed(path: str, stored: IO[bytes]) -> contextlib.AbstractContextManager[BinaryIO]:
    if path.endswith(".gz"):
        raw = _Decompressed(path, stored, lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error)
    elif path.endswith(".zst"):
        raw = _zstd(path, stored)
    else:
        return contextlib.nullcontext(stored)  # type: ignore[arg-type]
    return io.BufferedReader(raw, READ_SIZE)


def _zstd(path: str, stored: IO[bytes]) -> _Decompressed:
    try:
        import zstandard
    except ImportError:
        raise CommandError(
            f"`{path}`: reading .zst files needs the package zstandard",
            "pip install 'llamatok[corpus]'",
        ) from None
    zstd = zstandard.ZstdDecompressor(max_window_size=LARGEST_ZSTD_WINDOW)
    return _Decompressed(path, stored, zstd.decompressobj, zstandard.ZstdError)


class _Decompressed(Frames):
    """As its base, but errors name the file."""

    def __init__(
        self, path: str, stored: IO[bytes], new_frame: Callable[[], Frame], fault: type[Exception]
    ) -> None:
        super().__init__(stored, new_frame, fault)
        self._path = path

    def fail(self, error: Exception | None) -> Exception:
        what = "cut short" if error is None else f"damaged: {error}"
        return InputError(f"`{self._path}`: the compressed data is {what}")


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name only when it is complete and on the disk."""
    if path is None or path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as special:  # a device or a pipe; a directory raises
            yield special
        return
    folder, name = os.path.split(path)
    try:
        number, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    except OSError as error:
        raise CommandError(f"cannot write `{path}`: {error.strerror}") from None
    try:
        with open(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_for(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _mode_for(path: str) -> int:
    """The permissions that `open` would have left."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: str) -> None:
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
