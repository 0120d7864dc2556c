"""Open-Llama (s-JoL): Llama with a normed embedding that is also the head, and with dropouts.

Follows transformers 4.31.0, the last version in which the classes can be built. Not to be taken for OpenLLaMA
of openlm-research, which is plain Llama; such a checkpoint is read here too, since the reference document
does so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn

from .config import LlamaConfig
from .heads import LlamaForCausalLM, LlamaForSequenceClassification
from .llama import Attend, LlamaDecoderLayer, LlamaMLP, LlamaModel, LlamaPreTrainedModel, Mask, sdpa_attention


@dataclasses.dataclass(init=False, repr=False, eq=False)
class OpenLlamaConfig(LlamaConfig):
    """Parameters of an Open-Llama model; those not named here are `LlamaConfig`'s.

    Attention is multi-head without biases, RoPE's base is 10000, and `rope_scaling` is None or `{"type":
    "linear" or "dynamic", "factor": a float above 1}`. The defaults are those of the signature in 4.31.0,
    where the text of the document says otherwise for `vocab_size` and `rms_norm_eps`.
    """

    model_type: ClassVar[str] = "open-llama"  # type: ignore[misc]
    compatible_model_types: ClassVar[dict[str, dict[str, Any]]] = {
        "llama": {"use_stable_embedding": False, "shared_input_output_embedding": False}
    }

    vocab_size: int = 100000
    pad_token_id: int | None = 0
    hidden_dropout_prob: float = 0.1
    attention_dropout_prob: float = 0.1
    use_memory_efficient_attention: bool = True
    use_stable_embedding: bool = True
    shared_input_output_embedding: bool = True

    def _read_rope(self, values: dict[str, Any]) -> None:
        if (
            "use_memorry_efficient_attention" in values
        ):  # the reference's spelling, in checkpoints of its time
            values["use_memory_efficient_attention"] = values.pop("use_memorry_efficient_attention")
        scaling = values.get("rope_scaling")
        if scaling is not None:
            _check_scaling(scaling)
        super()._read_rope(values)

    def validate(self) -> None:
        """As for Llama, and what Open-Llama has not: other RoPE kinds, shared key and value heads, biases."""
        super().validate()
        if (
            self.rope_parameters["rope_type"] not in {"default", "linear", "dynamic"}
            or self.rope_theta != 10000.0
        ):
            raise ValueError(
                "Open-Llama has RoPE with base 10000, unscaled or scaled as `linear` or `dynamic`"
            )
        if self.num_key_value_heads != self.num_attention_heads:
            raise ValueError("Open-Llama has as many key and value heads as query heads")
        if self.attention_bias or self.mlp_bias:
            raise ValueError("Open-Llama has no biases: `attention_bias` and `mlp_bias` must be False")
        for name in ("hidden_dropout_prob", "attention_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)!r}")


def _check_scaling(scaling: Any) -> None:
    if not isinstance(scaling, Mapping) or len(scaling) != 2:
        raise ValueError(
            f"`rope_scaling` must be a dictionary of two fields, `type` and `factor`; got {scaling!r}"
        )
    if scaling.get("type", scaling.get("rope_type")) not in {"linear", "dynamic"}:
        raise ValueError(f"`rope_scaling.type` must be `linear` or `dynamic`, got {scaling.get('type')!r}")
    factor = scaling.get("factor")
    if not isinstance(factor, float) or not math.isfinite(factor) or factor <= 1.0:
        raise ValueError(f"`rope_scaling.factor` must be a float above 1, got {factor!r}")


class OpenLlamaMLP(LlamaMLP):
    """Llama's, with dropout on its result."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(cast(OpenLlamaConfig, config).hidden_dropout_prob)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.dropout(super().forward(x)))


class OpenLlamaDecoderLayer(LlamaDecoderLayer):
    """Llama's, with the MLP above."""

    mlp_class = OpenLlamaMLP


class OpenLlamaPreTrainedModel(LlamaPreTrainedModel):
    """Base of the Open-Llama classes: how weights start out."""

    config_class = OpenLlamaConfig
    config: OpenLlamaConfig

    def _init_weights(self, module: nn.Module) -> None:
        """As Llama's; a stable embedding starts as Xavier and Glorot's normal."""
        super()._init_weights(module)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        if isinstance(module, nn.Embedding) and self.config.use_stable_embedding:
            nn.init.xavier_normal_(module.weight)
            if module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()


class OpenLlamaModel(OpenLlamaPreTrainedModel, LlamaModel):
    """The decoder without a head.

    In training with `use_memory_efficient_attention` (the default), attention is torch's fused one with
    dropout `attention_dropout_prob`, and `attention_mask` has no effect: the reference drops it there. That
    dropout acts nowhere else.
    """

    layer_class = OpenLlamaDecoderLayer

    def __init__(self, config: OpenLlamaConfig) -> None:
        super().__init__(config)
        self.embed_layer_norm = nn.LayerNorm(config.hidden_size) if config.use_stable_embedding else None

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The embedding of ids, normed; given `inputs_embeds` pass this by, as in the reference."""
        x = cast(torch.Tensor, self.embed_tokens(input_ids))
        return x if self.embed_layer_norm is None else cast(torch.Tensor, self.embed_layer_norm(x))

    def attention(
        self, attention_mask: torch.Tensor | None, name: str
    ) -> tuple[torch.Tensor | None, Attend, str]:
        if not (self.training and self.config.use_memory_efficient_attention and name != "eager"):
            return super().attention(attention_mask, name)
        probability = self.config.attention_dropout_prob

        def attend(
            query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float, _: float
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            return sdpa_attention(query, key, value, mask, scale, probability)

        return None, attend, "sdpa"


class OpenLlamaForCausalLM(OpenLlamaPreTrainedModel, LlamaForCausalLM):
    """Open-Llama as a language model; with `shared_input_output_embedding` there is no `lm_head`."""

    model_class = OpenLlamaModel

    def new_head(self, config: LlamaConfig) -> nn.Linear | None:
        return (
            None if cast(OpenLlamaConfig, config).shared_input_output_embedding else super().new_head(config)
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.config.shared_input_output_embedding:
            return F.linear(hidden, self.get_input_embeddings().weight)
        return super().logits(hidden)


class OpenLlamaForSequenceClassification(OpenLlamaPreTrainedModel, LlamaForSequenceClassification):
    """Open-Llama with a linear head on each sequence's last token that is not padding, on either side.

    (The reference counts the tokens that are not padding, which finds the wrong one where padding is on the
    left.)
    """

    model_class = OpenLlamaModel
