"""The Llama forward pass, whole: embedding, rotary attention over a cache, gated MLP, norms.

Touvron et al., 2023 (arXiv:2302.13971, arXiv:2307.09288). Numbers follow transformers 5.23.0's Llama, and
parameters bear its names. Shapes in comments: B batch, T new tokens, L keys, D head_dim, H query heads, K key
and value heads.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .base import PreTrainedModel
from .cache import Cache, DynamicCache, StaticCache
from .config import LlamaConfig
from .layers import Fusable, activation, linear
from .outputs import BaseModelOutputWithPast
from .rope import RotaryEmbedding, Turns, rotate
from .step import core_step


class LlamaRMSNorm(nn.Module):
    """Root mean square norm (arXiv:1910.07467): in float32, cast back, then the weight."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32 == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)
        # In half precision the fused operation would round once where the trained models rounded twice.
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(x.dtype)


@dataclasses.dataclass(frozen=True)
class Mask:
    """What each new token may attend to, in the forms that the attention functions ask for.

    `bias` is added to the scores, (B or 1, 1 or H, T, L). Without it, tokens see all keys, or, where
    `causal`, those up to themselves. Functions that take no bias read `padding` (B, L), true for tokens,
    `window`, and `new` (T,), the new tokens among the keys where they are not the last.
    """

    bias: torch.Tensor | None
    causal: bool
    padding: torch.Tensor | None = None
    window: int | None = None
    new: torch.Tensor | None = None


# (query (B, H, T, D), key and value (B, K, L, D), mask, scale, dropout) -> (B, T, H * D) and (B, H, T, L) or
# None
Attend = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, Mask, float, float], tuple[torch.Tensor, torch.Tensor | None]
]


def eager_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float, dropout: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention written out, the only kind that returns its weights; softmax in float32."""
    groups = query.shape[1] // key.shape[1]
    key, value = _repeat_heads(key, groups), _repeat_heads(value, groups)
    scores = torch.matmul(query, key.transpose(2, 3)) * scale
    if mask.bias is not None:
        scores = scores + mask.bias
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=dropout > 0)
    return torch.matmul(weights, value).transpose(1, 2).flatten(2), weights


def sdpa_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float, dropout: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """torch's fused attention. For one new token, the queries that share keys become rows of one product."""
    batch, heads, length, width = query.shape
    groups, bias = heads // key.shape[1], mask.bias
    if groups > 1 and length == 1:
        query = query.reshape(batch, -1, groups, width)
        if bias is not None and bias.shape[1] > 1:
            bias = bias.reshape(bias.shape[0], -1, groups, bias.shape[3])
    elif groups > 1:
        key, value = _repeat_heads(key, groups), _repeat_heads(value, groups)
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, dropout_p=dropout, is_causal=mask.causal, scale=scale
    )
    return out.reshape(batch, heads, length, width).transpose(1, 2).flatten(2), None


def _repeat_heads(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(B, K, L, D) -> (B, K * groups, L, D), each head next to its copies."""
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def attention_function(name: str) -> Attend:
    """The attention of that name. ValueError for an unknown one, ImportError where its package is missing."""
    if name == "eager":
        return eager_attention
    if name == "sdpa":
        return sdpa_attention
    from . import attention

    return attention.by_name(name)


class LlamaAttention(Fusable):
    """Self-attention with rotary positions; heads may share keys and values (arXiv:2305.13245)."""

    joins: ClassVar[dict[str, tuple[str, ...]]] = {"qkv_proj": ("q_proj", "k_proj", "v_proj")}
    qkv_proj: nn.Module

    def __init__(self, config: LlamaConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_heads, self.num_key_value_heads = config.num_attention_heads, config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        inner, shared = self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        bias = config.attention_bias
        self.q_proj = linear(config.hidden_size, inner, bias=bias)
        self.k_proj = linear(config.hidden_size, shared, bias=bias)
        self.v_proj = linear(config.hidden_size, shared, bias=bias)
        self.o_proj = linear(inner, config.hidden_size, bias=bias, slices=config.pretraining_tp)

    def forward(
        self, x: torch.Tensor, turns: Turns, mask: Mask, cache: Cache | None, attend: Attend
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x (B, T, hidden_size) -> the same shape, and the attention weights where `attend` gives them."""
        if self.is_fused:
            projected = self.qkv_proj(x)
        else:
            projected = torch.cat((self.q_proj(x), self.k_proj(x), self.v_proj(x)), dim=-1)
        heads = projected.view(*x.shape[:2], -1, self.head_dim)  # (B, T, H + 2K, D)
        turning = self.num_heads + self.num_key_value_heads
        query_key = rotate(heads[:, :, :turning], turns).transpose(1, 2)
        query, key = query_key[:, : self.num_heads], query_key[:, self.num_heads :]
        value = heads[:, :, turning:].transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        dropout = self.attention_dropout if self.training else 0.0
        out, weights = attend(query, key, value, mask, self.scaling, dropout)
        return self.o_proj(out), weights


class LlamaMLP(Fusable):
    """The gated feed-forward layer (arXiv:2002.05202)."""

    joins: ClassVar[dict[str, tuple[str, ...]]] = {"gate_up_proj": ("gate_proj", "up_proj")}
    gate_up_proj: nn.Module

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = linear(hidden, inner, bias=bias)
        self.up_proj = linear(hidden, inner, bias=bias)
        self.down_proj = linear(inner, hidden, bias=bias, slices=config.pretraining_tp)
        self.act_fn = activation(config.hidden_act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_fused:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        gate = self.act_fn(gate)
        return cast(torch.Tensor, self.down_proj(gate * up if torch.is_grad_enabled() else gate.mul_(up)))


class LlamaDecoderLayer(nn.Module):
    """Attention and MLP, each after a norm and added to what came in."""

    mlp_class: ClassVar[type[LlamaMLP]] = LlamaMLP

    def __init__(self, config: LlamaConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer_idx)
        self.mlp = self.mlp_class(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, turns: Turns, mask: Mask, cache: Cache | None, attend: Attend
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, weights = self.self_attn(self.input_layernorm(x), turns, mask, cache, attend)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class LlamaPreTrainedModel(PreTrainedModel):
    """Base of the Llama classes: how weights start out."""

    config_class = LlamaConfig
    config: LlamaConfig

    def _init_weights(self, module: nn.Module) -> None:
        """Normal weights of std `initializer_range`, zero biases, and zeros for the padding token."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, LlamaRMSNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()


class LlamaModel(LlamaPreTrainedModel):
    """The decoder without a head: token ids to hidden states."""

    layer_class: ClassVar[type[LlamaDecoderLayer]] = LlamaDecoderLayer

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        padding_idx = self._padding_idx()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx)
        self.layers = nn.ModuleList(
            self.layer_class(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config.rope_parameters, config.head_dim, config.max_position_embeddings)
        self.post_init()

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, hidden_size)"""
        return cast(torch.Tensor, self.embed_tokens(input_ids))

    def attention(
        self, attention_mask: torch.Tensor | None, name: str
    ) -> tuple[torch.Tensor | None, Attend, str]:
        """The mask to heed, and the attention function with its name."""
        return attention_mask, attention_function(name), name

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: torch.Tensor | None = None,
    ) -> BaseModelOutputWithPast | tuple[object, ...]:
        """Hidden states (B, T, hidden_size) of `input_ids` (B, T), or of `inputs_embeds` (B, T, hidden_size).

        `attention_mask`: (B, past + T), 1 for tokens and 0 for padding on either side; or (B, 1 or H, T, L),
        true or 0.0 where a token may look. `position_ids`: (T,), (1, T) or (B, T); past + arange by default,
        whatever the mask says. `past_key_values`: a cache, or (keys, values) for each layer, which is then
        what comes back. `cache_position` (T,): positions by default, and where a static cache writes.
        """
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of `input_ids` and `inputs_embeds`")
        x = self.embed(cast(torch.Tensor, input_ids)) if inputs_embeds is None else inputs_embeds
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        all_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        use_cache = config.use_cache if use_cache is None else use_cache
        recompute = self.gradient_checkpointing and self.training
        if recompute and (use_cache or past_key_values is not None):
            warnings.warn("gradient checkpointing computes layers anew, so no cache is kept", stacklevel=2)
            use_cache, past_key_values = False, None

        cache, is_legacy = _cache_of(past_key_values, config, use_cache)
        length = x.shape[1]
        if isinstance(cache, StaticCache):
            writes = cache.begin(length, cache_position)
            past = None if cache.is_whole else cache.get_seq_length() - length
            keys, first = cache.get_mask_sizes(length)
            cache_position = writes if past is None else cache_position
        else:
            past = 0 if cache is None else cache.get_seq_length()
            keys, first = (length, 0) if cache is None else cache.get_mask_sizes(length, 0)
        position_ids = cache_position if position_ids is None else position_ids
        if position_ids is None:
            turns = self.rotary.run(cast(int, past), length, x.device, x.dtype)
        else:
            turns = self.rotary.at(position_ids, x.dtype)

        name = "eager" if output_attentions else config.attn_implementation
        attention_mask, attend, name = self.attention(attention_mask, name)
        mask = build_mask(attention_mask, x, past, cache_position, keys, first, config.sliding_window, name)
        hidden_states, attentions = [x], []
        step = core_step(self, x, turns, mask, cache, attend)
        for layer in self.layers:
            if step is not None:
                x, weights = step(layer, x)
            elif recompute:
                x, weights = checkpoint(layer, x, turns, mask, None, attend, **self._checkpoint_options)
            else:
                x, weights = layer(x, turns, mask, cache, attend)
            if all_states:
                hidden_states.append(x)
            if output_attentions:
                attentions.append(weights)
        x = self.norm(x)
        hidden_states[-1] = x

        output = BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=(cache.to_legacy_cache() if is_legacy else cache)
            if use_cache and cache is not None
            else None,
            hidden_states=tuple(hidden_states) if all_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


def _cache_of(
    given: Cache | Sequence[tuple[torch.Tensor, torch.Tensor]] | None, config: LlamaConfig, use_cache: bool
) -> tuple[Cache | None, bool]:
    """The cache to use, and whether tuples were given. Any object with a cache's methods will do."""
    if isinstance(given, (tuple, list)):
        return DynamicCache.from_legacy_cache(given), True
    if given is None and use_cache:
        return DynamicCache(config), False
    return cast("Cache | None", given), False


def build_mask(
    attention_mask: torch.Tensor | None,
    x: torch.Tensor,
    past: int | None,
    positions: torch.Tensor | None,
    keys: int,
    first: int,
    window: int | None,
    name: str = "sdpa",
) -> Mask:
    """The mask for the new tokens `x` over `keys` keys, the first of which is token `first` of the sequence.

    `past` is the number of tokens before `x`, or None where `positions` (T,) tells it. Nothing is built where
    all keys count and a flag says the rest.
    """
    batch, length = x.shape[:2]
    if attention_mask is not None and attention_mask.dim() == 4:
        if attention_mask.shape[2:] != (length, keys):
            raise ValueError(
                f"a 4-D `attention_mask` must be (batch, 1 or heads, {length}, {keys}) here, "
                f"got {tuple(attention_mask.shape)}"
            )
        if attention_mask.dtype == torch.bool:
            attention_mask = _as_bias(attention_mask, x.dtype, name)
        return Mask(attention_mask.to(x.dtype), causal=False)
    if attention_mask is not None:
        total = first + keys
        if past is None and attention_mask.shape[-1] < total:
            attention_mask = F.pad(attention_mask, (0, total - attention_mask.shape[-1]))
        if attention_mask.shape != (batch, total):
            raise ValueError(
                f"`attention_mask` must be (batch, past + new tokens), here ({batch}, {total}), "
                f"got {tuple(attention_mask.shape)}"
            )
        attention_mask = attention_mask[:, first:].to(torch.bool)
        if not torch.compiler.is_compiling() and bool(attention_mask.all()):
            attention_mask = None
    within = past is not None and (window is None or past - first + length <= window)
    if within and attention_mask is None and name != "eager" and (length == 1 or past == first):
        return Mask(None, causal=length > 1, window=window)
    if past is not None:
        positions = torch.arange(past, past + length, device=x.device)
    assert positions is not None
    at, keyed = positions[:, None], torch.arange(first, first + keys, device=x.device)
    if name == "flash_attention_2":
        if past is None:  # a static cache's whole buffers: what is not yet written is padding
            written = (keyed <= at[-1]).expand(batch, keys)
            attention_mask = written if attention_mask is None else attention_mask & written
        return Mask(None, True, attention_mask, window, new=positions if past is None else None)
    allowed = keyed <= at  # (T, L)
    if window is not None:
        allowed = allowed & (keyed > at - window)
    allowed = allowed[None, None]
    if attention_mask is not None:
        allowed = allowed & attention_mask[:, None, None]
    return Mask(_as_bias(allowed, x.dtype, name), causal=False)


def _as_bias(allowed: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    # A row of padding may look nowhere: of -inf alone the eager softmax makes nan, and the fused ones 0.
    shut = torch.finfo(dtype).min if name == "eager" else -torch.inf
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, shut)
