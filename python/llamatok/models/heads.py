"""The Llama model with a head: language model, sequence and token classifier, question answering."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from . import losses
from .cache import Cache
from .config import LlamaConfig
from .layers import linear
from .llama import LlamaModel, LlamaPreTrainedModel
from .outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    ModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from .step import core_linear

Output = TypeVar("Output", bound=ModelOutput)
PastKeyValues = Cache | Sequence[tuple[torch.Tensor, torch.Tensor]]
_LOSS_ARGUMENTS = frozenset({"num_items_in_batch", "ignore_index", "shift_labels"})


class LlamaForCausalLM(LlamaPreTrainedModel):
    """Llama as a language model: a linear head without bias gives each next token's logits."""

    model_class: ClassVar[type[LlamaModel]] = LlamaModel
    tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = self.model_class(config)
        self.lm_head = self.new_head(config)
        self.post_init()

    def new_head(self, config: LlamaConfig) -> nn.Linear | None:
        """The linear layer over the vocabulary, or None for a model that makes do without."""
        return linear(config.hidden_size, config.vocab_size)

    def can_generate(self) -> bool:
        return True

    def get_output_embeddings(self) -> nn.Linear | None:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head = new_embeddings

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., hidden_size) -> (..., vocab_size)"""
        head = cast(nn.Linear, self.lm_head)
        found = core_linear(head, hidden)
        return cast(torch.Tensor, head(hidden)) if found is None else found

    def loss_function(self, logits: torch.Tensor, labels: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        """Cross entropy of the next tokens; see `llamatok.models.losses.causal_lm_loss`."""
        return losses.causal_lm_loss(logits, labels, **kwargs)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: PastKeyValues | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_logits_to_keep: int | None = None,
        **loss_kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits (batch, kept positions, vocab_size), and the loss where `labels` (batch, length) are given.

        `logits_to_keep`: the last so many positions (0: all), or the positions themselves, (n,) for all rows
        or (batch, n), or true where they are, (batch, length). `num_logits_to_keep` is its older name.
        `loss_kwargs`: `num_items_in_batch`, `ignore_index`, `shift_labels`. The other arguments are
        `LlamaModel`'s.
        """
        unknown = sorted(set(loss_kwargs) - _LOSS_ARGUMENTS)
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.forward has no argument {', '.join(f'`{name}`' for name in unknown)}"
            )
        if num_logits_to_keep is not None:
            warnings.warn("`num_logits_to_keep` is now `logits_to_keep`", FutureWarning, stacklevel=2)
            logits_to_keep = num_logits_to_keep
        outputs = _base_outputs(
            self.model,
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            cache_position=cache_position,
        )
        logits = self.logits(_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None or loss_kwargs.get("shift_labels") is not None:
            loss = self.loss_function(logits, labels, **loss_kwargs)
        return _returned(
            self.config,
            return_dict,
            CausalLMOutputWithPast(
                loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions
            ),
        )


def _keep(hidden: torch.Tensor, which: int | torch.Tensor) -> torch.Tensor:
    if isinstance(which, int):
        return hidden[:, -which:] if which else hidden
    if which.dim() == 2:
        return hidden[which] if which.dtype == torch.bool else hidden.take_along_dim(which[..., None], dim=1)
    return hidden[:, which]


def _base_outputs(model: LlamaModel, **arguments: Any) -> BaseModelOutputWithPast:
    return cast(BaseModelOutputWithPast, model(**arguments, return_dict=True))


def _returned(config: LlamaConfig, return_dict: bool | None, output: Output) -> Output | tuple[Any, ...]:
    return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class LlamaForSequenceClassification(LlamaPreTrainedModel):
    """Llama with a linear head without bias on each sequence's last token."""

    model_class: ClassVar[type[LlamaModel]] = LlamaModel

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = self.model_class(config)
        self.score = linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: PastKeyValues | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """Logits (batch, num_labels) at each row's last token that is not padding, and the loss for `labels`.

        That is the rightmost token other than `pad_token_id`. Without a padding token it is the rightmost
        that `attention_mask` keeps, or the last; with `inputs_embeds` always the last.
        """
        outputs = _base_outputs(
            self.model,
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        hidden = outputs.last_hidden_state
        last = last_tokens(input_ids, attention_mask, self.config.pad_token_id, hidden)
        logits = self.score(hidden[torch.arange(len(hidden), device=hidden.device), last])
        loss = None if labels is None else losses.sequence_classification_loss(logits, labels, self.config)
        return _returned(
            self.config,
            return_dict,
            SequenceClassifierOutputWithPast(
                loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions
            ),
        )


def last_tokens(
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    pad_token_id: int | None,
    hidden: torch.Tensor,
) -> torch.Tensor:
    """Index of each row's last token that is not padding, (batch,); see the classifier's forward pass."""
    batch, length = hidden.shape[:2]
    counts: torch.Tensor | None = None
    if input_ids is not None and pad_token_id is not None:
        counts = input_ids != pad_token_id
    elif input_ids is not None and attention_mask is not None and attention_mask.dim() == 2:
        counts = attention_mask[:, -length:].to(torch.bool)
    if counts is None:
        return torch.full((batch,), length - 1, device=hidden.device)
    positions = torch.arange(length, device=hidden.device)
    return (positions * counts.to(hidden.device)).argmax(dim=-1)


class LlamaForTokenClassification(LlamaPreTrainedModel):
    """Llama with dropout and a linear head with bias on every token."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = LlamaModel(config)
        dropout = getattr(config, "classifier_dropout", None)
        dropout = getattr(config, "hidden_dropout", None) if dropout is None else dropout
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.score = linear(config.hidden_size, config.num_labels, bias=True)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: PastKeyValues | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Logits (batch, length, num_labels); `labels` (batch, length), -100 for none, not shifted."""
        outputs = _base_outputs(
            self.model,
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.score(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = losses.cross_entropy(logits.view(-1, self.num_labels).to(torch.float32), labels.view(-1))
        return _returned(
            self.config,
            return_dict,
            TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions),
        )


class LlamaForQuestionAnswering(LlamaPreTrainedModel):
    """Llama with a linear head with bias that scores each token as the start and as the end of the answer."""

    base_model_prefix = "transformer"

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.transformer = LlamaModel(config)
        self.qa_outputs = linear(config.hidden_size, 2, bias=True)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: PastKeyValues | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        """Start and end logits, (batch, length) each; the loss is the mean of both cross entropies."""
        outputs = _base_outputs(
            self.transformer,
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = losses.question_answering_loss(start_logits, end_logits, start_positions, end_positions)
        return _returned(
            self.config,
            return_dict,
            QuestionAnsweringModelOutput(
                loss, start_logits, end_logits, outputs.hidden_states, outputs.attentions
            ),
        )
