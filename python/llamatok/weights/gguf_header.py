"""The header of a GGUF file, walked and checked before the package `gguf` reads it.

The package believes the lengths that it finds: an array of 2^60 bytes in a file of a hundred fills the
memory. Here every length is checked against what the file holds, and against the limits below.
"""

from __future__ import annotations

import mmap
import os
import struct

from llamatok.weights.errors import WeightsError

#: The most keys, and the most tensors.
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
#: The longest key or name of a tensor, in bytes.
MAX_NAME_BYTES = (1 << 16) - 1
#: The most dimensions of a tensor, as in ggml.
MAX_DIMENSIONS = 4
#: The most bytes of the header with all metadata, as in the core (`load::MAX_MODEL_BYTES`).
MAX_HEADER_BYTES = 256 << 20
#: The most elements of all arrays together: the package makes an object of each.
MAX_ELEMENTS = 1 << 22

#: The bytes of a value by its type; 8 is a string, and 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def check_header(path: str | os.PathLike[str]) -> None:
    """Walks the header of a GGUF file.

    Raises:
        WeightsError: It is cut short, passes a limit, or is of another version or byte order.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < 24:
            raise WeightsError(f"`{path}` is no GGUF file, or is cut short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Header(data, os.fspath(path)).walk()


class _Header:
    def __init__(self, data: mmap.mmap, path: str) -> None:
        self._data = data
        self._path = path
        self._end = min(len(data), MAX_HEADER_BYTES)
        self._position = 4
        self._elements = 0

    def walk(self) -> None:
        version = self._u32("version")
        if version not in (2, 3):
            kind = "big-endian" if int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3) else "of"
            raise self._fault(f"the file is {kind} version {version}; little-endian ones of 2 and 3 are read")
        tensors, keys = self._u64("tensor_count"), self._u64("metadata_kv_count")
        if keys > MAX_KEYS or tensors > MAX_TENSORS:
            raise self._fault(
                f"{keys} metadata keys and {tensors} tensors; the limits are {MAX_KEYS} and {MAX_TENSORS}"
            )
        seen: set[bytes] = set()
        for index in range(keys):
            key = self._name(f"metadata[{index}]")
            if key in seen:
                raise self._fault(f"the metadata key {key!r} occurs twice")
            seen.add(key)
            self._value(repr(key))
        for index in range(tensors):
            field = f"tensor[{index}]"
            self._name(field)
            dimensions = self._u32(field)
            if dimensions > MAX_DIMENSIONS:
                raise self._fault(f"{field} has {dimensions} dimensions; the limit is {MAX_DIMENSIONS}")
            elements = 1
            for _ in range(dimensions):
                elements *= self._u64(field)
            if elements > 1 << 48:
                raise self._fault(f"{field} has {elements} elements, more than any file holds")
            self._take(4 + 8, field)

    def _value(self, field: str) -> None:
        kind = self._u32(field)
        if kind == _STRING:
            self._take(self._u64(field), field)
        elif kind == _ARRAY:
            self._array(field)
        elif kind in _SIZES:
            self._take(_SIZES[kind], field)
        else:
            raise self._fault(f"the metadata {field} are of the unknown type {kind}")

    def _array(self, field: str) -> None:
        of, count = self._u32(field), self._u64(field)
        self._elements += count
        if self._elements > MAX_ELEMENTS:
            raise self._fault(f"the arrays up to {field} have more elements than the limit of {MAX_ELEMENTS}")
        if of in _SIZES:
            self._take(count * _SIZES[of], field)
        elif of == _STRING:
            for _ in range(count):
                self._take(self._u64(field), field)
        else:
            raise self._fault(f"the metadata {field} are an array of arrays, or of the unknown type {of}")

    def _name(self, field: str) -> bytes:
        length = self._u64(field)
        if length > MAX_NAME_BYTES:
            raise self._fault(
                f"{field} has a name of {length} bytes, more than the limit of {MAX_NAME_BYTES}"
            )
        start = self._take(length, field)
        return self._data[start : start + length]

    def _u32(self, field: str) -> int:
        return int(struct.unpack_from("<I", self._data, self._take(4, field))[0])

    def _u64(self, field: str) -> int:
        return int(struct.unpack_from("<Q", self._data, self._take(8, field))[0])

    def _take(self, count: int, field: str) -> int:
        start = self._position
        if count > self._end - start:
            raise self._fault(
                f"byte {start}: {field} needs {count} bytes, but the file, or the limit of"
                f" {MAX_HEADER_BYTES} for its header, ends at {self._end}"
            )
        self._position += count
        return start

    def _fault(self, message: str) -> WeightsError:
        return WeightsError(f"`{self._path}` is damaged, or not for this reader: {message}")
