"""One safetensors file: read through a mapping, written tensor by tensor.

The format (https://github.com/huggingface/safetensors#format): 8 bytes, the header's length as a
little-endian u64; the header, JSON, `{name: {"dtype", "shape", "data_offsets"}}`; the tensors, one after
another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from llamatok.weights.checkpoint import LazyTensor
from llamatok.weights.errors import WeightsError

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}

#: Bytes read through one mapping before a new one is made. Pages that were read count as this process's
#: memory for as long as their mapping lasts, so one mapping of a whole file would double a load's peak
#: wherever tensors change their dtype or device.
MAPPING_BYTES = 32 << 20


class _MappedFile:
    """Reads tensors as views of private mappings; a mapping ends with the last tensor that came from it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: Any = None
        self._read = 0

    def open(self) -> Any:
        try:
            return safe_open(self._path, framework="pt", device="cpu")
        except SafetensorError as error:
            raise WeightsError(f"`{self._path}` is no safetensors file, or is cut short: {error}") from None

    def read(self, name: str, size: int) -> torch.Tensor:
        if self._handle is None:
            self._handle = self.open()
        tensor: torch.Tensor = self._handle.get_tensor(name)
        self._read += size
        if self._read >= MAPPING_BYTES:
            self._handle, self._read = None, 0
        return tensor


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, LazyTensor]:
    """The tensors of a safetensors file. Only the header is read; the data is mapped, tensor by tensor.

    Raises:
        WeightsError: the file is damaged, or holds a dtype or a shape that torch or this package does not
            know.
    """
    file = _MappedFile(os.fspath(path))
    tensors: dict[str, LazyTensor] = {}
    handle = file.open()
    for name in handle.keys():  # noqa: SIM118 (it is no mapping)
        part = handle.get_slice(name)
        dtype = DTYPES.get(part.get_dtype())
        if dtype is None:
            raise WeightsError(
                f"`{path}`: tensor `{name}` has a dtype that is not supported: {part.get_dtype()}"
            )
        tensors[name] = _lazy(file, name, tuple(part.get_shape()), dtype, os.fspath(path))
    return tensors


def _lazy(file: _MappedFile, name: str, shape: tuple[int, ...], dtype: torch.dtype, path: str) -> LazyTensor:
    try:
        empty = torch.empty(shape, dtype=dtype, device="meta")
    # The package checks sizes, but a tensor without elements may have any other dimensions.
    except (RuntimeError, TypeError):
        raise WeightsError(f"`{path}`: tensor `{name}` has a shape that is not possible: {shape}") from None
    return LazyTensor(shape, dtype, lambda: file.read(name, empty.nbytes))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The free-form metadata of a safetensors file."""
    metadata: dict[str, str] | None = _MappedFile(os.fspath(path)).open().metadata()
    return metadata or {}


class SafetensorsWriter:
    """Writes a safetensors file front to back, holding one tensor at a time.

    The header comes first in the file, so names, shapes and dtypes are told at the start and the tensors are
    given in the same order. safetensors' own `save_file` wants all of them in memory at once.
    """

    def __init__(
        self,
        file: BinaryIO,
        entries: Sequence[tuple[str, tuple[int, ...], torch.dtype]],
        metadata: Mapping[str, str],
    ) -> None:
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        offset = 0
        for name, shape, dtype in entries:
            if dtype not in DTYPE_NAMES:
                raise WeightsError(f"tensor `{name}` has a dtype that safetensors cannot hold: {dtype}")
            end = offset + torch.empty(shape, dtype=dtype, device="meta").nbytes
            header[name] = {
                "dtype": DTYPE_NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [offset, end],
            }
            offset = end
        self._file = file
        self._entries = iter(entries)
        encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # Padded as the library does, so that every tensor starts at a multiple of 8 bytes.
        encoded += b" " * (-len(encoded) % 8)
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Writes the next tensor.

        Raises:
            WeightsError: it is not the tensor that was announced as the next one.
        """
        expected = next(self._entries, None)
        if expected != (name, tuple(tensor.shape), tensor.dtype):
            raise WeightsError(
                f"tensor `{name}` of shape {tuple(tensor.shape)}, {tensor.dtype}, comes where"
                f" {expected} was announced"
            )
        flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        self._file.write(flat.numpy().data)
