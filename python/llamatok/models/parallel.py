"""One model over several processes: tensor parallel for inference and training, FSDP2 for training.

    torchrun --nproc-per-node 2 script.py

    mesh = torch.distributed.device_mesh.init_device_mesh("cuda", (2,))
    model = tensor_parallel(LlamaForCausalLM.from_pretrained(folder), mesh)

Both need torch 2.6. A model that was spread has DTensors for parameters; `gathered_state_dict` makes plain
tensors of them again, for `save_pretrained(folder, state_dict=...)` on one process.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from .base import PreTrainedModel
from .llama import LlamaAttention, LlamaDecoderLayer, LlamaModel

try:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        ParallelStyle,
        RowwiseParallel,
        parallelize_module,
    )
except ImportError as error:
    raise ImportError(
        "spreading a model over processes needs torch 2.6 or newer, built with distributed"
    ) from error

Model = TypeVar("Model", bound=PreTrainedModel)


def tensor_parallel_plan(model: PreTrainedModel) -> dict[str, ParallelStyle]:
    """How `parallelize_module` is to split each layer, by its path in `model` (Shoeybi et al., 2019,
    arXiv:1909.08053).

    Projections into heads and into the MLP are split by their outputs, those back by their inputs, so that
    each block has one sum over the processes, at its end. The embedding and the head over the vocabulary are
    split by the vocabulary, the same way, so that they may be tied.
    """
    prefix = f"{model.base_model_prefix}." if not isinstance(model, LlamaModel) else ""
    plan: dict[str, ParallelStyle] = {
        f"{prefix}embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
    }
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
        plan[f"{prefix}layers.*.{name}"] = ColwiseParallel()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        plan[f"{prefix}layers.*.{name}"] = RowwiseParallel()
    if isinstance(model.get_output_embeddings(), nn.Linear):
        plan["lm_head"] = ColwiseParallel(output_layouts=Replicate())
    return plan


def tensor_parallel(model: Model, mesh: DeviceMesh) -> Model:
    """Splits a model's layers over the processes of a one-dimensional mesh, in place; returns the model.

    Every process calls it with a model of the same shape; the weights of the first process count. Inputs and
    outputs are whole on every process; a cache holds the process's own heads.

    Raises:
        ValueError: heads, key and value heads, the MLP's width or the vocabulary do not divide by the number
            of processes, or the model computes in slices (`pretraining_tp`) or has lighter weights.
    """
    config, count = model.config, mesh.size()
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
        if getattr(config, name) % count:
            raise ValueError(f"`{name}` ({getattr(config, name)}) does not divide by {count} processes")
    if config.pretraining_tp > 1:
        raise ValueError("a model with `pretraining_tp` above 1 computes in slices already; set it to 1")
    if getattr(model, "weight_format", None) is not None:
        raise ValueError("lighter weights cannot be split; load the model without `weight_format`")
    model.unfuse()
    parallelize_module(model, mesh, tensor_parallel_plan(model))
    for module in model.modules():
        if isinstance(module, LlamaAttention):
            module.num_heads //= count
            module.num_key_value_heads //= count
    # The two were distributed one by one; split alike, they can be one parameter again.
    model.tie_weights()
    return model


def shard_for_training(
    model: Model,
    mesh: DeviceMesh | None = None,
    *,
    dtype: torch.dtype | None = None,
    reshard_after_forward: bool = True,
) -> Model:
    """Wraps a model with FSDP2, layer by layer, in place; returns the model.

    Each process keeps its share of every parameter, gradient and optimizer state, and gathers one layer at a
    time. `mesh` is one-dimensional, all processes by default. `dtype` (bfloat16, say) is that of the
    computation, while parameters and gradients keep theirs. Make the optimizer afterwards.
    """
    model.unfuse()
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    for module in model.modules():
        if isinstance(module, LlamaDecoderLayer):
            fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    return model


def gathered_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The whole state of a spread model as plain tensors on the CPU: on the first process; empty on others.

    Every process has to call it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
