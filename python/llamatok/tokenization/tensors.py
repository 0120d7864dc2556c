"""Lists of numbers as arrays of numpy and tensors of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llamatok.tokenization.strategies import TensorType

if TYPE_CHECKING:
    import torch


def tensor_type(name: str | TensorType) -> TensorType:
    """The library of a `return_tensors` argument.

    Raises:
        ValueError: It is none of those supported.
    """
    value = getattr(name, "value", name)
    if value in ("tf", "jax", "mlx"):
        raise ValueError(
            f"return_tensors={value!r} is not supported: ask for 'np' and convert the arrays, or for 'pt'"
        )
    return TensorType(value)


def import_torch() -> Any:
    """PyTorch.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "return_tensors='pt' needs PyTorch, which is not installed: pip install 'llamatok[torch]'"
        ) from error
    return torch


def from_array(array: npt.NDArray[Any], kind: TensorType) -> npt.NDArray[Any] | torch.Tensor:
    """An array as it is, or a tensor over the same memory."""
    if kind is TensorType.NUMPY:
        return array
    tensor: torch.Tensor = import_torch().from_numpy(array)
    return tensor


def as_tensor(value: Any, kind: TensorType) -> Any:
    """A number or (nested) lists of numbers as an array; what already is one stays as it is.

    Raises:
        ValueError: The lists are not of one length.
    """
    if kind is TensorType.NUMPY:
        if isinstance(value, np.ndarray):
            return value
        return _array(_without_tensors(value))
    torch = import_torch()
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], torch.Tensor):
        return torch.stack(list(value))
    if isinstance(value, (list, tuple)):
        return torch.from_numpy(_array(value))
    return torch.tensor(value)


def _array(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype == object:
        raise ValueError("the lists differ in length or hold something other than numbers")
    # An empty list says nothing of its type; ids are int64.
    return array.astype(np.int64) if array.size == 0 else array


def _without_tensors(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_tensors(item) for item in value] if value and _is_tensor(value[0]) else value
    return np.asarray(value) if _is_tensor(value) else value


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, np.generic)


def is_tensor_or_array(value: Any) -> bool:
    """Whether this is an array of numpy or a tensor of any library."""
    return hasattr(value, "__array__") and hasattr(value, "shape")


def to_lists(value: Any) -> Any:
    """Arrays and tensors, also inside lists and dicts, as plain Python numbers and lists."""
    if isinstance(value, (int, float, str, bool)) or value is None:
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if not value or isinstance(value[0], int):
            return list(value)
        return [to_lists(item) for item in value]
    return value
