"""`PreTrainedModel`: what all models have besides a forward pass.

Loading and saving belong to `llamatok.weights`, generating to `llamatok.generation`; both are imported when
used.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from .config import PretrainedConfig
from .layers import Fusable

Model = TypeVar("Model", bound="PreTrainedModel")
_initialize = True


@contextlib.contextmanager
def no_init_weights() -> Iterator[None]:
    """Within it, new models are not initialized: for those whose weights are loaded at once."""
    global _initialize
    before, _initialize = _initialize, False
    try:
        yield
    finally:
        _initialize = before


class PreTrainedModel(nn.Module):
    """Base of all models: embeddings, tying, resizing, gradient checkpointing, and the way to files."""

    config_class: ClassVar[type[PretrainedConfig]] = PretrainedConfig
    base_model_prefix: ClassVar[str] = "model"
    main_input_name: ClassVar[str] = "input_ids"
    supports_gradient_checkpointing: ClassVar[bool] = True
    # Names of parameters that are another's when `tie_word_embeddings` is set: {of the head: of the
    # embedding}.
    tied_weights_keys: ClassVar[dict[str, str]] = {}
    # Keys of older checkpoints that mean nothing any more.
    keys_to_ignore_on_load: ClassVar[tuple[str, ...]] = (r"rotary_emb\.inv_freq$",)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        known = isinstance(config, self.config_class)
        if not known or config.model_type not in (
            self.config_class.model_type,
            *self.config_class.compatible_model_types,
        ):
            raise TypeError(
                f"{type(self).__name__} is made from a {self.config_class.__name__}, not from a "
                f"{type(config).__name__}; to load a checkpoint, call `from_pretrained`"
            )
        self.config: Any = config
        self._generation_config: Any = None
        self.gradient_checkpointing = False
        self._checkpoint_options: dict[str, Any] = {"use_reentrant": False}

    def post_init(self) -> None:
        """Initialize and tie the weights; the last line of each constructor."""
        if _initialize:
            # Inner models have done it for theirs.
            for module in self.modules():
                if not module.__dict__.get("_is_initialized"):
                    self._init_weights(module)
                    module.__dict__["_is_initialized"] = True
        self.tie_weights()

    def init_weights(self) -> None:
        """Give every parameter its starting value."""
        for module in self.modules():
            self._init_weights(module)

    def _init_weights(self, module: nn.Module) -> None:
        """Give the parameters of this one module, without its children, their starting values."""

    @classmethod
    def from_pretrained(
        cls: type[Model], pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Model:
        """Load a checkpoint, in evaluation mode; see `llamatok.weights.from_pretrained` for the arguments."""
        weights = importlib.import_module("llamatok.weights")
        model: Model = weights.from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs)
        return model

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write configuration and weights into a folder; see `llamatok.weights.save_pretrained`."""
        importlib.import_module("llamatok.weights").save_pretrained(self, save_directory, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Continue token ids; see `llamatok.generation.generate`."""
        if not self.can_generate():
            raise TypeError(f"{type(self).__name__} has no language-model head and cannot generate")
        return importlib.import_module("llamatok.generation").generate(self, *args, **kwargs)

    def can_generate(self) -> bool:
        """Whether `generate` works: there is a head over the vocabulary."""
        return False

    @property
    def generation_config(self) -> Any:
        """Settings of `generate` (`llamatok.generation.GenerationConfig`); None where it cannot generate."""
        if self._generation_config is None and self.can_generate():
            generation = importlib.import_module("llamatok.generation")
            self._generation_config = generation.GenerationConfig.from_model_config(self.config)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        self._generation_config = value

    @classmethod
    def from_config(
        cls: type[Model],
        config: PretrainedConfig,
        *,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
    ) -> Model:
        """A model with fresh weights, of torch's default data type where none is given."""
        if attn_implementation is not None:
            config.attn_implementation = attn_implementation
        model = cls(config)
        if dtype is not None:
            wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
            model.to(wanted)
        return model

    _from_config = from_config

    @property
    def base_model(self) -> PreTrainedModel:
        """The model without its head."""
        inner = getattr(self, self.base_model_prefix, self)
        assert isinstance(inner, PreTrainedModel)
        return inner

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the first parameter of floating point."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold; tied ones count once."""
        embeddings = {
            id(parameter)
            for module in self.modules()
            if exclude_embeddings and isinstance(module, nn.Embedding)
            for parameter in module.parameters()
        }
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in embeddings and (parameter.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self) -> int:
        """Bytes that parameters and buffers take."""
        tensors = (*self.parameters(), *self.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def set_attn_implementation(self, name: str) -> None:
        """Choose `"sdpa"`, `"eager"`, `"flash_attention_2"` or `"flex_attention"`."""
        from .llama import attention_function

        attention_function(name)
        self.config.attn_implementation = name

    def fuse(self: Model) -> Model:
        """Join the linear layers that read the same input, for inference; files keep the separate names.

        The joined parameters are new: call it after training, or before an optimizer is made.
        """
        for module in self.modules():
            if isinstance(module, Fusable):
                module.fuse()
        return self

    def unfuse(self: Model) -> Model:
        """Undo `fuse`."""
        for module in self.modules():
            if isinstance(module, Fusable):
                module.unfuse()
        return self

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Keep only the layers' inputs in training and compute the rest anew: less memory, more time."""
        self._set_checkpointing(True, {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})})

    def gradient_checkpointing_disable(self) -> None:
        """Keep all that the gradient needs, which is how models start out."""
        self._set_checkpointing(False, {"use_reentrant": False})

    def _set_checkpointing(self, enabled: bool, options: dict[str, Any]) -> None:
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.gradient_checkpointing, module._checkpoint_options = enabled, options

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.base_model.gradient_checkpointing

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the tokens."""
        embedding = self.base_model.embed_tokens
        assert isinstance(embedding, nn.Embedding)
        return embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another embedding in its place; a tied head follows."""
        self.base_model.embed_tokens = value
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Linear | None:
        """The head over the vocabulary, where there is one."""
        return None

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Put another head over the vocabulary in its place."""
        raise AttributeError(f"{type(self).__name__} has no head over the vocabulary")

    def tie_weights(self) -> None:
        """Let the head share the embedding's weight where the configuration says so."""
        head = self.get_output_embeddings()
        if head is not None and self.config.tie_word_embeddings:
            head.weight = self.get_input_embeddings().weight

    def _padding_idx(self) -> int | None:
        """The embedding's `padding_idx`: the configured padding token; a negative one is no token at all."""
        pad = self.config.pad_token_id
        if pad is None or pad < 0:
            return None
        if pad >= self.config.vocab_size:
            raise ValueError(
                f"`pad_token_id` is {pad}, and `vocab_size` {self.config.vocab_size} has no such token; "
                "raise `vocab_size`, or resize with `resize_token_embeddings(..., pad_token_id=...)`"
            )
        return int(pad)

    @torch.no_grad()
    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        pad_token_id: int | None = None,
    ) -> nn.Embedding:
        """Give the embedding, and the head over the vocabulary, `new_num_tokens` rows; returns the embedding.

        Rows that were there stay. New ones are about the mean of the old (normal, with 1e-9 of their
        covariance, as transformers does since 4.46), or with `mean_resizing=False` start as in a new model.
        `pad_to_multiple_of` rounds the number up. `pad_token_id` is for the recipe that adds a `<pad>` token:
        it is set in the configuration, its row, where it is new, becomes zeros and gets no gradient.
        """
        embedding, head = self.get_input_embeddings(), self.get_output_embeddings()
        count = embedding.num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            if not isinstance(pad_to_multiple_of, int) or pad_to_multiple_of < 1:
                raise ValueError(
                    f"`pad_to_multiple_of` must be a whole number of at least 1, got {pad_to_multiple_of!r}"
                )
            count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"`new_num_tokens` must be a whole number of at least 1, got {new_num_tokens!r}")
        padding = self.config.pad_token_id if pad_token_id is None else pad_token_id
        padding = padding if padding is not None and padding >= 0 else None
        if pad_token_id is not None and not 0 <= pad_token_id < count:
            raise ValueError(f"`pad_token_id` {pad_token_id} is no row of an embedding of {count}")
        if padding is not None and padding >= count:
            warnings.warn(f"`pad_token_id` {padding} is no row of an embedding of {count}", stacklevel=2)
            padding = None

        old = embedding.num_embeddings
        tied = head is not None and head.weight is embedding.weight
        if count != old:
            resized = nn.Embedding(count, embedding.embedding_dim, device="meta")
            resized.weight = self._resized(embedding.weight, count, mean_resizing)
            if head is not None:
                new_head = nn.Linear(head.in_features, count, bias=False, device="meta")
                new_head.weight = resized.weight if tied else self._resized(head.weight, count, mean_resizing)
                if head.bias is not None:
                    new_head.bias = nn.Parameter(
                        torch.cat((head.bias[:count], head.bias.new_zeros(max(0, count - old)))),
                        requires_grad=head.bias.requires_grad,
                    )
                self.set_output_embeddings(new_head)
            self.set_input_embeddings(resized)
            embedding = resized
        embedding.padding_idx = padding
        if padding is not None and padding >= old:
            embedding.weight[padding].zero_()
        if pad_token_id is not None:
            self.config.pad_token_id = pad_token_id
        self.config.vocab_size = count
        return embedding

    def _resized(self, weight: torch.Tensor, count: int, mean_resizing: bool) -> nn.Parameter:
        old = weight.shape[0]
        new = torch.empty(max(0, count - old), weight.shape[1], dtype=torch.float32, device=weight.device)
        if mean_resizing:
            rows = weight.to(torch.float32)
            mean = rows.mean(dim=0)
            # A normal mix of the centred rows has their covariance, without factoring it.
            mix = torch.randn(len(new), old, device=weight.device) * (1e-9 / old) ** 0.5
            new = mean + mix @ (rows - mean)
        else:
            new.normal_(mean=0.0, std=self.config.initializer_range)
        rows = torch.cat((weight[:count], new.to(weight.dtype)))
        return nn.Parameter(rows, requires_grad=weight.requires_grad)
