"""Files: written whole or not at all, and never outside the folder that names them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llamatok._limited import read_object
from llamatok._paths import is_within
from llamatok.weights.errors import WeightsError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends well, and never in part.

    The bytes go to a temporary name in the same folder, are synced to the disk, and are renamed.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner alone; the result is an ordinary file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON has as an escape only
        content = (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
    with atomic_file(path) as file:
        file.write(content)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        WeightsError: the file is not JSON, not an object, or has more bytes than JSON may have.
    """
    try:
        return read_object(path)
    except ValueError as error:
        raise WeightsError(str(error)) from None


def file_within(folder: Path, name: object, named_by: Path) -> Path:
    """The file that `named_by` (an index in `folder`) calls `name`.

    An index is data from strangers: its names stay within the folder (`llamatok._paths`).

    Raises:
        WeightsError: the name is no relative path, leads out of the folder, or to no file.
    """
    if not is_within(folder, name):
        raise WeightsError(
            f"`{named_by}` names a file that is not within its folder, by a relative path: {name!r}"
        )
    path = folder / str(name)
    if not os.path.isfile(path):
        raise WeightsError(f"`{named_by}` names a file that is not there: {name!r}")
    return path


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power failure, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
