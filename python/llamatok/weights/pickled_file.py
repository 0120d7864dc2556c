"""One file of `torch.save`: a dictionary of tensors, loaded without running anything that is in it."""

from __future__ import annotations

import os
import pickle
import re

import torch

from llamatok.weights.checkpoint import LazyTensor
from llamatok.weights.errors import WeightsError

#: Bytes read through one mapping before a new one is made (see `safetensors_file.MAPPING_BYTES`; more,
#: because opening such a file means unpickling its directory).
MAPPING_BYTES = 128 << 20
LEAST_MAPPING_BYTES = 16 << 20
#: The first version of torch whose `weights_only=True` runs nothing that is in a file (CVE-2025-32434).
_OLDEST_TORCH = (2, 6)


class PickledFile:
    """Tensors of a file, read through mappings that are renewed as the reading goes on.

    `beside` is the number of files that are read side by side: together they map no more than half of one.
    """

    def __init__(self, path: str | os.PathLike[str], beside: int = 1) -> None:
        self.path = os.fspath(path)
        if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _OLDEST_TORCH:
            raise WeightsError(
                f"`{self.path}` is a pickle, and torch {torch.__version__} may run code that is in one:"
                " install torch 2.6 or newer, or take the weights as safetensors"
            )
        share = os.path.getsize(path) // (2 * beside)
        self._limit = min(MAPPING_BYTES, max(LEAST_MAPPING_BYTES, share))
        tensors = self._load()
        #: Shape and dtype of every tensor.
        self.entries = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        self._tensors: dict[str, torch.Tensor] | None = tensors
        self._read = 0

    def read(self, name: str) -> torch.Tensor:
        """The tensor `name`, a view of the mapped file where the file allows it."""
        if self._tensors is None:
            self._tensors = self._load()
        tensor = self._tensors[name]
        self._read += tensor.nbytes
        if self._read >= self._limit and self._mapped:
            self._tensors, self._read = None, 0
        return tensor

    def _load(self) -> dict[str, torch.Tensor]:
        try:
            loaded = self._load_mapped()
        except pickle.UnpicklingError as error:
            reason = str(error).strip().splitlines() or ["unpickling failed"]
            raise WeightsError(
                f"`{self.path}` is damaged or holds more than tensors, and loading it might run code:"
                f" {reason[0]}"
            ) from None
        # torch's reader checks little: a damaged file leads to errors of any type.
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise WeightsError(f"`{self.path}` is no file of torch.save, or is cut short: {error}") from None
        if not isinstance(loaded, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in loaded.items()
        ):
            raise WeightsError(f"`{self.path}` holds something other than a dictionary of tensors")
        for name, tensor in loaded.items():
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise WeightsError(f"`{self.path}`: the name of a tensor is not UTF-8: {name!r}")
            if not _is_plain(tensor):
                raise WeightsError(f"`{self.path}`: tensor {name!r} is not stored number by number")
        return loaded

    def _load_mapped(self) -> object:
        self._mapped = True
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files of torch before 1.6 are no zip files and cannot be mapped.
            if "mmap" not in str(error):
                raise
        self._mapped = False
        return torch.load(self.path, map_location="cpu", weights_only=True)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether the file has each element: a view may repeat a few bytes without end, or be sparse."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_neg() or tensor.is_conj())
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )


def read_bin(path: str | os.PathLike[str]) -> dict[str, LazyTensor]:
    """The tensors of a `pytorch_model.bin`. Loads with `weights_only=True`: nothing in the file is run.

    Raises:
        WeightsError: the file is damaged, or holds anything but a flat dictionary of tensors.
    """
    file = PickledFile(path)

    def lazy(name: str) -> LazyTensor:
        shape, dtype = file.entries[name]
        return LazyTensor(shape, dtype, lambda: file.read(name))

    return {name: lazy(name) for name in file.entries}
