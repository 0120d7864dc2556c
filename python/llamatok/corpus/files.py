"""Files that appear whole or not at all, and files that grow and can be cut back to a known length."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from llamatok.corpus.errors import OutputError

__all__ = ["AppendFile", "digest_of", "rename", "sync_folder", "write_whole", "writing"]

READ_BYTES = 4 << 20


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns an error of the operating system into one that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write `{path}`: {reason}", "free some space or raise the limit, then resume the run"
        ) from error


def write_whole(path: str, content: bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk, and renames it."""
    temporary = f"{path}.tmp"
    try:
        with writing(path):
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(os.path.dirname(path))
    except OutputError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def rename(source: str, target: str) -> None:
    """Moves a finished file to its name; does nothing where that was done before."""
    with writing(target):
        if not os.path.exists(source) and os.path.exists(target):
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)


def sync_folder(folder: str) -> None:
    """Makes renames in a folder outlast a loss of power, where the system can."""
    if os.name == "posix":
        number = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def digest_of(path: str, length: int | None = None) -> Any:
    """The SHA-256 object over a file's first `length` bytes."""
    digest = hashlib.sha256()
    left = os.path.getsize(path) if length is None else length
    with open(path, "rb") as file:
        while left:
            part = file.read(min(READ_BYTES, left))
            if not part:
                raise OutputError(f"`{path}` is shorter than recorded", "start anew with --overwrite")
            digest.update(part)
            left -= len(part)
    return digest


class AppendFile:
    """A growing file whose SHA-256 is taken along the way, on another thread."""

    def __init__(self, path: str, length: int = 0, hashing: ThreadPoolExecutor | None = None) -> None:
        self.path = path
        self.length = length
        self._hashing = hashing
        self._pending: Future[None] | None = None
        with writing(path):
            if length and (not os.path.exists(path) or os.path.getsize(path) < length):
                raise OutputError(
                    f"the state of the run is damaged: `{path}` is shorter than recorded",
                    "start anew with --overwrite",
                )
            self._file = open(path, "r+b" if length else "wb", buffering=0)  # noqa: SIM115
            self._file.truncate(length)
            self._file.seek(length)
        self._digest = digest_of(path, length) if hashing is not None and length else hashlib.sha256()

    def write(self, data: Any) -> None:
        """Appends bytes, which must not change afterwards."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        if self._hashing is not None and len(view):
            if self._pending is not None:
                self._pending.result()
            self._pending = self._hashing.submit(self._digest.update, view)
        self.length += len(view)
        with writing(self.path):
            while len(view):
                view = view[self._file.write(view) :]

    def sync(self) -> None:
        """Brings everything to the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        if self._pending is not None:
            self._pending.result()
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of what was written."""
        if self._pending is not None:
            self._pending.result()
        return str(self._digest.hexdigest())
