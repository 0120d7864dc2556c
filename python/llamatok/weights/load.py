"""From a checkpoint to a model: built without memory, then given its weights one tensor at a time."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from llamatok.weights.checkpoint import Checkpoint, LazyTensor, is_computed
from llamatok.weights.errors import WeightsError
from llamatok.weights.open import open_checkpoint
from llamatok.weights.progress import Progress, ProgressCallback

Model = TypeVar("Model", bound=nn.Module)

#: Prefixes under which heads keep their base model; question answering says `transformer`.
BASE_PREFIXES = ("model.", "transformer.")

#: How many names of each kind an error lists.
LISTED = 20


class Unfilled(TorchFunctionMode):
    """Within it, `torch.nn.init` leaves tensors as they are.

    On the meta device its `normal_`, which has nothing to fill there, imports torch's compiler: half of the
    time in which `llamatok generate` starts.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What torch calls in place of `func`."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def from_pretrained(
    model_class: type[Model],
    source: str | os.PathLike[str],
    *,
    config: Any = None,
    dtype: torch.dtype | str | None = "auto",
    device: torch.device | str | None = None,
    weight_format: str | None = None,
    strict: bool = True,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    progress: bool | ProgressCallback | None = None,
    torch_dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    **config_overrides: Any,
) -> Model:
    """A model of `model_class` with the weights of `source`, in eval mode.

    Args:
        source: a folder in Hugging Face's layout, a folder of Meta's, a `.gguf` file, a `.bin` file of
            llama2.c, or (where no such file exists) the id of a repository on the Hugging Face Hub, which
            needs the extra `hub`.
        config: used in place of the checkpoint's configuration.
        dtype: of the parameters. "auto" is the checkpoint's own, as in transformers 5.x: what its
            configuration says, else what its tensors have. None is torch's default dtype, as in
            transformers 4.x. `torch_dtype` is the older name.
        device: where the parameters go; the CPU where it is None. Parameters on the CPU in the stored dtype
            are private mappings of the file, read when first touched.
        weight_format: "fp16-packed", "int8" or "int4" for lighter weights; see `llamatok.weights.lighter`.
            The other parameters and the activations are then float32, unless `dtype` says otherwise.
        strict: whether missing, unexpected and misshapen tensors are an error (all in one message). If
            False they are a warning, and such parameters keep their fresh values.
        revision, cache_dir, local_files_only, token: for the Hub, as in huggingface_hub.
        progress: None draws a line on a terminal once the load takes 2 s; True and False say so always or
            never; a function is called with the bytes done and the bytes in all.
        config_overrides: replace single parameters of the configuration.

    Raises:
        WeightsError: nothing can be read at `source`, or the tensors are not those of the model.
        FileNotFoundError: `source` is neither a file nor the id of a repository.
    """
    if device_map is not None:
        device = _device_of(device_map)
    checkpoint = open_checkpoint(
        source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token
    )
    if config is None:
        try:
            config = model_class.config_class.from_dict({**checkpoint.config, **config_overrides})  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            raise WeightsError(f"the configuration of `{checkpoint.path}` is not usable: {error}") from None
    elif config_overrides:
        raise TypeError(f"given with config=, nothing can override it: {', '.join(sorted(config_overrides))}")
    given = torch_dtype if torch_dtype is not None else dtype
    if weight_format is not None and given == "auto":
        given = torch.float32
    wanted = _wanted_dtype(given, config, checkpoint)
    config.dtype = wanted
    if hasattr(config, "name_or_path"):
        config.name_or_path = os.fspath(source)
    with torch.device("meta"), Unfilled():
        model = model_class(config)
    if weight_format is None:
        fill(model, checkpoint, wanted, device, strict=strict, progress=progress)
    else:
        from llamatok.weights.lighter import fill_lighter

        fill_lighter(model, checkpoint, weight_format, wanted, device, strict=strict, progress=progress)
    _attach_generation_config(model, checkpoint)
    return model.eval()


def _wanted_dtype(dtype: torch.dtype | str | None, config: Any, checkpoint: Checkpoint) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        found: Any = dtype
    elif dtype is None:
        found = torch.get_default_dtype()
    elif dtype == "auto":
        found = getattr(config, "dtype", None) or checkpoint.dtype()
    else:
        found = getattr(torch, dtype.removeprefix("torch."), None)
    # Nothing is computed in types of 8 bits and less.
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        got = f"{found} from the checkpoint" if dtype == "auto" else repr(dtype)
        raise ValueError(
            f'dtype is "auto", None, or a floating-point dtype of torch (16 bits or more), got {got}'
        )
    return found


def _device_of(device_map: Any) -> torch.device | str:
    if device_map == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device: torch.device | str | int | dict[str, Any] = device_map
    if isinstance(device, dict) and list(device) == [""]:
        device = device[""]
    if isinstance(device, dict):
        raise ValueError(
            "device_map names one device for the whole model here;"
            " llamatok.models.parallel splits a model over several"
        )
    return f"cuda:{device}" if isinstance(device, int) else device


def _attach_generation_config(model: nn.Module, checkpoint: Checkpoint) -> None:
    if checkpoint.generation_config is None:
        return
    try:
        generation = importlib.import_module("llamatok.generation")
    except ImportError:
        return
    try:
        model.generation_config = generation.GenerationConfig.from_dict(checkpoint.generation_config)
    except ValueError as error:
        raise WeightsError(
            f"the generation configuration of `{checkpoint.path}` is not usable: {error}"
        ) from None


# ------------------------------------------------------------------------------------ names and shapes


@dataclass
class Plan:
    """Which tensor of a checkpoint goes where in a model.

    `sources` maps the first name of each parameter or buffer of the model to its tensor, in the order of the
    checkpoint; `aliases` all names of the same (tied) parameter; `fresh` are heads that the checkpoint lacks.
    """

    sources: dict[str, LazyTensor] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)

    def nbytes(self) -> int:
        """Bytes to read."""
        return sum(tensor.nbytes for tensor in self.sources.values())


def plan(model: nn.Module, checkpoint: Checkpoint, *, strict: bool = True) -> Plan:
    """Matches names and shapes before any data is read.

    A base model reads a checkpoint with a head and the other way round: the prefix `model.` (`transformer.`
    for question answering) is added or taken off. A head other than `lm_head` may be missing; it is made
    afresh, with a warning. Heads that the model has no place for are left out.

    Raises:
        WeightsError: lists every missing, unexpected and misshapen tensor (a warning if not `strict`).
    """
    made = Plan()
    by_identity: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    floating: dict[str, bool] = {}
    first: dict[str, str] = {}
    for name, parameter in _persistent(model):
        shapes[name], floating[name] = tuple(parameter.shape), parameter.is_floating_point()
        first[name] = by_identity.setdefault(id(parameter), name)
        made.aliases.setdefault(first[name], []).append(name)

    prefix = _prefix_of(shapes, getattr(model, "base_model_prefix", None))
    tensors = _renamed(checkpoint.tensors, prefix)
    misshapen: list[str] = []
    unexpected: list[str] = []
    for name, tensor in tensors.items():
        if name not in shapes:
            if not is_computed(name) and (prefix is None or name.startswith(prefix)):
                unexpected.append(name)
        elif first[name] in made.sources:
            continue  # a second copy of a tied parameter
        elif tensor.dtype.is_floating_point != floating[name]:
            misshapen.append(f"{name}: {tensor.dtype} in the checkpoint")
        elif tensor.shape != shapes[name]:
            misshapen.append(f"{name}: {tensor.shape} in the checkpoint, {shapes[name]} in the model")
        else:
            made.sources[first[name]] = tensor
    faulty = {line.split(":", 1)[0] for line in misshapen}
    absent = [
        name for name, names in made.aliases.items() if name not in made.sources and not faulty & set(names)
    ]
    is_head = prefix if prefix else None
    made.fresh = [
        name
        for name in absent
        if is_head is not None and not name.startswith(is_head) and not name.startswith("lm_head.")
    ]
    missing = [name for name in absent if name not in made.fresh]
    if missing or unexpected or misshapen:
        message = _mismatch(checkpoint.path, missing, unexpected, misshapen)
        if strict:
            raise WeightsError(message)
        warnings.warn(message, stacklevel=4)
        made.fresh += missing + [first[name] for name in faulty]
    elif made.fresh:
        warnings.warn(
            f"`{checkpoint.path}` has no weights for {', '.join(made.fresh)}: they are new and want training",
            stacklevel=4,
        )
    return made


def _persistent(model: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Parameters and persistent buffers under all their names."""
    yield from model.named_parameters(remove_duplicate=False)
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield (f"{path}.{name}" if path else name), buffer


def _prefix_of(names: Iterable[str], declared: str | None) -> str | None:
    """The prefix of the base model's names with its dot; "" for a base model."""
    for prefix in ([f"{declared}."] if declared else []) + list(BASE_PREFIXES):
        if any(name.startswith(prefix) for name in names):
            return prefix
    return ""


def _renamed(tensors: Mapping[str, LazyTensor], prefix: str | None) -> dict[str, LazyTensor]:
    stored = next((p for p in BASE_PREFIXES if any(name.startswith(p) for name in tensors)), "")
    renamed: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(stored) and (stored or _is_base(name)):
            renamed[f"{prefix or ''}{name[len(stored) :]}"] = tensor
        elif prefix or not stored:
            renamed[name] = tensor
    return renamed


def _is_base(name: str) -> bool:
    """Whether a name without prefix belongs to a base model."""
    return name.startswith(("embed_tokens.", "layers.", "norm.", "embed_layer_norm."))


def _mismatch(path: str, missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    lines = [f"the tensors of `{path}` are not those of the model"]
    for title, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        if names:
            lines.append(f"  {title} ({len(names)}): " + "; ".join(names[:LISTED]))
            if len(names) > LISTED:
                lines[-1] += f"; and {len(names) - LISTED} more"
    lines.append("hint: strict=False loads what fits and leaves the rest as it was made")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------- filling


def fill(
    model: nn.Module,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
    *,
    strict: bool = True,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Gives a model on the meta device the weights of a checkpoint, tied parameters as one tensor."""
    made = plan(model, checkpoint, strict=strict)
    target = torch.device("cpu" if device is None else device)
    with Progress(f"loading {os.path.basename(checkpoint.path)}", made.nbytes(), progress) as bar:
        for name, lazy in made.sources.items():
            put(model, made.aliases[name], converted(lazy.read(), dtype, target))
            bar.add(lazy.nbytes)
    finish(model, made, dtype, target)


def converted(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The tensor in the dtype (if it holds floating-point numbers) and on the device."""
    kept = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device=device, dtype=kept)


def put(model: nn.Module, names: Iterable[str], tensor: torch.Tensor) -> None:
    """Makes `tensor` the parameter or buffer of all `names`."""
    made: nn.Parameter | None = None
    for name in names:
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        old = module._parameters.get(leaf)
        if old is None:
            module._buffers[leaf] = tensor
            continue
        if made is None:
            made = nn.Parameter(tensor, requires_grad=old.requires_grad)
        module._parameters[leaf] = made


def finish(model: nn.Module, made: Plan, dtype: torch.dtype, device: torch.device) -> None:
    """Makes what no checkpoint holds: heads that are new, tables that come from the configuration."""
    for name in made.fresh:
        _initialise(model, name, made.aliases[name], dtype, device)
    for module in model.modules():
        reset: Callable[[torch.device], None] | None = getattr(module, "reset_buffers", None)
        if reset is not None and any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            reset(device)
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise WeightsError(
            f"{type(model).__name__} has tensors that no checkpoint can fill: {', '.join(left)}"
        )


def _initialise(
    model: nn.Module, name: str, names: list[str], dtype: torch.dtype, device: torch.device
) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    old = getattr(module, leaf)
    fresh = torch.empty(old.shape, dtype=dtype, device=device)
    if leaf == "bias":
        nn.init.zeros_(fresh)
    elif old.dim() == 1:
        nn.init.ones_(fresh)
    else:
        nn.init.normal_(fresh, std=float(getattr(getattr(model, "config", None), "initializer_range", 0.02)))
    put(model, names, fresh)
