"""Meta's own checkpoints: `params.json` beside `consolidated.NN.pth`, one file for each rank of the
training's model parallelism.

Sources: the reference code of Llama 1 to 3 (the split of each layer), and the conversion script of
transformers 4.37.2 (names, RoPE order), of which three errors are not repeated: the width of keys and
values is head_dim * n_kv_heads whatever the shape, an unsplit model with grouped-query attention works, and
so does one with fewer key and value heads than shards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from llamatok.weights.checkpoint import Checkpoint, LazyTensor, is_computed
from llamatok.weights.errors import WeightsError
from llamatok.weights.files import read_json
from llamatok.weights.layout import LAYER_NAMES, MODEL_NAMES, halves_from_pairs
from llamatok.weights.pickled_file import PickledFile

PARAMS = "params.json"
_SHARD = re.compile(r"consolidated\.(\d+)\.pth")
_LAYER = re.compile(r"layers\.(\d{1,9})\.", re.ASCII)

#: Split along the output features: each shard has some rows.
BY_ROWS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3", "output")
#: Split along the input features: each shard has some columns.
BY_COLUMNS = ("attention.wo", "feed_forward.w2")


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder in Meta's layout."""
    return (path / PARAMS).is_file()


def read_folder(folder: str | os.PathLike[str], *, max_position_embeddings: int | None = None) -> Checkpoint:
    """The checkpoint in a folder of Meta's, under Hugging Face's names. Nothing but the directories of the
    shards is read; a tensor is put together when it is asked for.

    `max_position_embeddings` is not in Meta's files. Without the argument it is told from what is: 131072
    with scaled RoPE (Llama 3.1 and later), 8192 with 128,256 pieces (Llama 3), 16384 with rope_theta above
    10000 (Code Llama), 4096 with norm_eps 1e-5 (Llama 2), 2048 else (Llama 1).

    Raises:
        WeightsError: a shard is missing or damaged, or does not fit `params.json`.
    """
    root = Path(folder)
    params = _Params(root / PARAMS)
    paths = _shard_paths(root)
    shards = [PickledFile(path, beside=len(paths)) for path in paths]
    names = {name for shard in shards for name in shard.entries if not is_computed(name)}
    tensors: dict[str, LazyTensor] = {}
    for name in sorted(names, key=_order):
        renamed = _renamed(name, root)
        tensors[renamed] = _joined(name, shards, params)
    for needed in ("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"):
        if needed not in tensors:
            raise WeightsError(f"the shards of `{root}` hold no tensor that becomes `{needed}`")
    if params.scaled_rope and _equal(tensors.get("lm_head.weight"), tensors["model.embed_tokens.weight"]):
        del tensors["lm_head.weight"]
    vocabulary = _tokenizer_model(root)
    return Checkpoint(
        path=os.fspath(folder),
        config=_config(params, tensors, max_position_embeddings),
        tensors=tensors,
        tokenizer_files={} if vocabulary is None else {"tokenizer.model": os.fspath(vocabulary)},
    )


class _Params:
    """The fields of `params.json`, checked."""

    def __init__(self, path: Path) -> None:
        values = read_json(path)
        self.path = path

        def count(name: str, default: int | None = None) -> int:
            value = values.get(name, default)
            if value is None and default is not None:
                value = default
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise WeightsError(f"`{path}`: `{name}` must be a whole number above 0, found {value!r}")
            return value

        def number(name: str, default: float) -> float:
            value = values.get(name)
            if value is None:
                return default
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e300:
                raise WeightsError(f"`{path}`: `{name}` must be a number above 0, found {value!r}")
            return float(value)

        self.dim = count("dim")
        self.layers = count("n_layers")
        self.heads = count("n_heads")
        self.kv_heads = count("n_kv_heads", self.heads)
        self.head_dim = count("head_dim", max(self.dim // self.heads, 1))
        self.eps = number("norm_eps", 1e-5)
        self.theta = number("rope_theta", 10000.0)
        self.scaled_rope = bool(values.get("use_scaled_rope"))
        self.rope_factor = number("rope_scaling_factor", 0.0)
        if self.heads % self.kv_heads:
            raise WeightsError(
                f"`{path}`: n_heads ({self.heads}) must be a multiple of n_kv_heads ({self.kv_heads})"
            )
        if self.head_dim % 2 or ("head_dim" not in values and self.dim % self.heads):
            raise WeightsError(
                f"`{path}`: dim ({self.dim}) and n_heads ({self.heads}) give no even head width"
            )


def _shard_paths(root: Path) -> list[Path]:
    numbered = {
        int(match.group(1)): root / name
        for name in os.listdir(root)
        if (match := _SHARD.fullmatch(name)) is not None
    }
    if not numbered:
        raise WeightsError(f"`{root}` has a {PARAMS} but no consolidated.NN.pth")
    lost = sorted(set(range(max(numbered) + 1)) - set(numbered))
    if lost:
        raise WeightsError(
            f"`{root}` lacks " + ", ".join(f"consolidated.{number:02d}.pth" for number in lost)
        )
    return [numbered[number] for number in sorted(numbered)]


def _order(name: str) -> tuple[int, ...]:
    """Layer by layer, so that shards are read front to back."""
    match = _LAYER.match(name)
    if match is not None:
        return (1, int(match.group(1)))
    return (0 if name.startswith("tok_embeddings") else 2, 0)


def _renamed(name: str, root: Path) -> str:
    stem, _, leaf = name.rpartition(".")
    parts = stem.split(".", 2)
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{leaf}"
    if len(parts) == 3 and parts[0] == "layers" and parts[2] in LAYER_NAMES:
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{leaf}"
    raise WeightsError(f"the shards of `{root}` hold a tensor that no Llama has: `{name}`")


def _joined(name: str, shards: Sequence[PickledFile], params: _Params) -> LazyTensor:
    """The whole of a tensor of which each shard has a part."""
    lacking = [shard.path for shard in shards if name not in shard.entries]
    if lacking:
        raise WeightsError(f"`{lacking[0]}` lacks the tensor `{name}`, which another shard has")
    shapes = [shard.entries[name][0] for shard in shards]
    dimensions = 1 if name.endswith(".bias") or "norm" in name else 2
    if any(len(shape) != dimensions for shape in shapes):
        raise WeightsError(
            f"`{shards[0].path}`: `{name}` has not {dimensions} dimensions, but is {shapes[0]}"
        )
    dtype = shards[0].entries[name][1]
    kind = name.removesuffix(".weight").removesuffix(".bias")
    kind = kind.split(".", 2)[2] if kind.startswith("layers.") else kind
    width = params.head_dim
    dimensions = 1 if name.endswith(".bias") else 2
    if kind in (*BY_ROWS, *BY_COLUMNS, "tok_embeddings") and any(
        len(shape) != dimensions for shape in shapes
    ):
        raise WeightsError(f"`{shards[0].path}`: `{name}` has not {dimensions} dimensions: {shapes[0]}")

    if kind.endswith("norm"):
        return _checked(name, (params.dim,), shapes[0], dtype, shards, lambda: shards[0].read(name))
    if kind in BY_COLUMNS and name.endswith(".bias"):
        return LazyTensor(shapes[0], dtype, lambda: shards[0].read(name))
    if kind == "tok_embeddings":
        # Llama 1 and 2 split the features, Llama 3 the vocabulary. A single file is whole.
        by = 0 if shapes[0][1] == params.dim else 1
        whole = _concatenated(shapes, by)
        expected: tuple[int | None, ...] = (None, params.dim)
        return _checked(name, expected, whole, dtype, shards, lambda: _cat(name, shards, by))
    if kind in BY_COLUMNS:
        whole = _concatenated(shapes, 1)
        inner = params.heads * width if kind == "attention.wo" else None
        return _checked(name, (params.dim, inner), whole, dtype, shards, lambda: _cat(name, shards, 1))
    if kind not in BY_ROWS:
        raise WeightsError(f"`{shards[0].path}` holds a tensor that no Llama has: `{name}`")

    rest = shapes[0][1:]
    if kind == "attention.wq":
        rows, heads = params.heads * width, params.heads
    elif kind in ("attention.wk", "attention.wv"):
        rows, heads = params.kv_heads * width, params.kv_heads
        copies, remainder = divmod(sum(shape[0] for shape in shapes), rows)
        if copies > 1 and not remainder and len(shards) % copies == 0:
            # Fewer heads than shards: each head is on several of them.
            if kind == "attention.wv":
                return LazyTensor((rows, *rest), dtype, lambda: _without_copies(name, shards, copies))
            return LazyTensor(
                (rows, *rest), dtype, lambda: halves_from_pairs(_without_copies(name, shards, copies), heads)
            )
    else:
        rows, heads = None, 0
    whole = _concatenated(shapes, 0)
    expected = (rows, params.dim) if rest else (rows,)
    if kind in ("attention.wq", "attention.wk"):
        return _checked(
            name,
            expected,
            whole,
            dtype,
            shards,
            lambda: halves_from_pairs(_cat(name, shards, 0), heads),
        )
    return _checked(name, expected, whole, dtype, shards, lambda: _cat(name, shards, 0))


def _concatenated(shapes: Sequence[tuple[int, ...]], by: int) -> tuple[int, ...]:
    whole = list(shapes[0])
    whole[by] = sum(shape[by] for shape in shapes)
    return tuple(whole)


def _cat(name: str, shards: Sequence[PickledFile], by: int) -> torch.Tensor:
    if len(shards) == 1:
        return shards[0].read(name)
    return torch.cat([shard.read(name) for shard in shards], dim=by)


def _without_copies(name: str, shards: Sequence[PickledFile], copies: int) -> torch.Tensor:
    """The heads in order, of which neighbouring shards hold the same, `copies` times each."""
    parts: list[torch.Tensor] = []
    for start in range(0, len(shards), copies):
        first, *others = [shard.read(name) for shard in shards[start : start + copies]]
        if not all(torch.equal(first, other) for other in others):
            raise WeightsError(
                f"`{shards[start].path}` and its {copies - 1} next should hold the same heads of"
                f" `{name}`, and do not"
            )
        parts.append(first)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _checked(
    name: str,
    expected: tuple[int | None, ...],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    shards: Sequence[PickledFile],
    read: Any,
) -> LazyTensor:
    fits = len(shape) == len(expected) and all(
        want in (None, found) for want, found in zip(expected, shape, strict=True)
    )
    if not fits:
        folder = os.path.dirname(shards[0].path)
        raise WeightsError(
            f"`{folder}`: `{name}` is {shape} over {len(shards)} shards, and {PARAMS} asks for"
            f" ({', '.join('any' if want is None else str(want) for want in expected)}); is a shard missing?"
        )
    return LazyTensor(shape, dtype, read)


def _equal(one: LazyTensor | None, other: LazyTensor) -> bool:
    return one is not None and one.shape == other.shape and torch.equal(one.read(), other.read())


def _tokenizer_model(root: Path) -> Path | None:
    """Meta's archives keep one `tokenizer.model` for all sizes in the folder above them."""
    for place in (root, root.parent):
        if (place / "tokenizer.model").is_file():
            return place / "tokenizer.model"
    return None


def _config(params: _Params, tensors: dict[str, LazyTensor], positions: int | None) -> dict[str, Any]:
    vocabulary = tensors["model.embed_tokens.weight"].shape[0]
    llama3 = vocabulary >= 128256
    tied = "lm_head.weight" not in tensors
    rope: dict[str, Any] | None = None
    if params.scaled_rope:
        # The factors are constants of Meta's code; the small models, which tie their embeddings, have 32.
        rope = {
            "rope_type": "llama3",
            "factor": params.rope_factor or (32.0 if tied else 8.0),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    if positions is None:
        if params.scaled_rope:
            positions = 131072
        elif llama3:
            positions = 8192
        elif params.theta > 10000:
            positions = 16384
        else:
            positions = 4096 if params.eps >= 1e-5 else 2048
    dtype = tensors["model.embed_tokens.weight"].dtype
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": params.dim,
        "intermediate_size": tensors["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": params.layers,
        "num_attention_heads": params.heads,
        "num_key_value_heads": params.kv_heads,
        "head_dim": params.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": params.eps,
        "rope_theta": params.theta,
        "rope_scaling": rope,
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in tensors,
        "tie_word_embeddings": tied,
        "bos_token_id": 128000 if llama3 else 1,
        "eos_token_id": 128001 if llama3 else 2,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
