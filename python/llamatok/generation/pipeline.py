"""`llamatok.pipeline("text-generation", model=...)`: texts in, texts out, as with transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from llamatok.generation.config import GenerationConfig

__all__ = ["TextGenerationPipeline", "pipeline"]

Message = Mapping[str, Any]
Chat = Sequence[Message]


def pipeline(
    task: str = "text-generation",
    model: Any = None,
    tokenizer: Any = None,
    *,
    dtype: Any = None,
    torch_dtype: Any = None,
    device: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> TextGenerationPipeline:
    """Makes a pipeline.

    Args:
        task: `text-generation`, the only one.
        model: a model, or a folder or hub id to load one from; None is the demo checkpoint of the package.
        tokenizer: a tokenizer, or where to load one from; None takes the model's folder.
        dtype: the type of the weights (`torch.float16`, `"bfloat16"`, `"auto"`); `torch_dtype` is its old
            name. device: `"cpu"`, `"cuda:0"`, or the number of a GPU (-1: the CPU). model_kwargs: more
            arguments for the model's `from_pretrained`. **settings: of `TextGenerationPipeline`, and fields
            of `GenerationConfig`.

    Raises:
        ValueError: another task, or no tokenizer for a model that is given as an object.
    """
    if task != "text-generation":
        raise ValueError(f'the task `{task}` is not offered; there is "text-generation"')
    if model is None:
        from llamatok import demo_checkpoint

        model = demo_checkpoint()
    if isinstance(model, (str, os.PathLike)):
        from llamatok.models import LlamaForCausalLM

        tokenizer = model if tokenizer is None else tokenizer
        dtype = torch_dtype if dtype is None else dtype
        arguments = dict(model_kwargs or {}) | ({} if dtype is None else {"dtype": dtype})
        model = LlamaForCausalLM.from_pretrained(model, **arguments)
        if arguments.get("weight_format") is None:
            model.fuse()
    if isinstance(tokenizer, (str, os.PathLike)):
        from llamatok import LlamaTokenizer

        tokenizer = LlamaTokenizer.from_pretrained(tokenizer)
    if tokenizer is None:
        raise ValueError("give the `tokenizer` too: a model that is loaded already does not name one")
    if device is not None:
        model = model.to(_device(device))
    return TextGenerationPipeline(model, tokenizer, **settings)


def _device(device: Any) -> torch.device:
    if isinstance(device, int):
        return torch.device("cpu" if device < 0 else f"cuda:{device}")
    return torch.device(device)


class TextGenerationPipeline:
    """Goes on with texts, or answers conversations.

    Args:
        model: a causal language model of this package.
        tokenizer: with padding and, for conversations, a chat template.
        batch_size: how many prompts run at once, padded on the left where they differ in length.
        return_full_text: whether results have the prompt in front (conversations: its messages).
        **settings: fields of `GenerationConfig`, for every call. Without a length, 256 new tokens.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int = 1,
        return_full_text: bool = True,
        **settings: Any,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = _positive(batch_size)
        self.return_full_text = return_full_text
        base = getattr(model, "generation_config", None) or GenerationConfig()
        self.generation_config: GenerationConfig = base.updated(**settings)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    def __call__(
        self,
        text_inputs: str | Chat | Iterable[str | Chat],
        *,
        return_full_text: bool | None = None,
        return_tensors: bool = False,
        batch_size: int | None = None,
        add_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
        continue_final_message: bool | None = None,
        tools: Any = None,
        documents: Any = None,
        **settings: Any,
    ) -> list[Any]:
        """Generates.

        Args:
            text_inputs: a text, a conversation (a list of messages with `role` and `content`), or several.
            return_full_text: see the class.
            return_tensors: whether results hold ids (`generated_token_ids`) instead of text.
            continue_final_message: whether the last message is gone on with; by default where the assistant
                spoke last.
            batch_size: see the class.
            **settings: fields of `GenerationConfig` and arguments of `generate`.

        Returns:
            For one prompt a list of `{"generated_text": ...}`, one for each returned sequence; for several
            prompts a list of such lists. A conversation's text is its messages with the answer.
        """
        full = self.return_full_text if return_full_text is None else return_full_text
        single = isinstance(text_inputs, str) or _is_chat(text_inputs)
        prompts: list[Any] = [text_inputs] if single else list(text_inputs)

        def goes_on(prompt: Any) -> bool:
            by_role: bool = prompt[-1]["role"] == "assistant"
            return by_role if continue_final_message is None else continue_final_message

        def encoded(prompt: Any) -> list[int]:
            if not _is_chat(prompt):
                ids: list[int] = self.tokenizer(prompt, add_special_tokens=add_special_tokens)["input_ids"]
                return ids
            found = self.tokenizer.apply_chat_template(
                list(prompt),
                tools=tools,
                documents=documents,
                add_generation_prompt=not goes_on(prompt),
                continue_final_message=goes_on(prompt),
                tokenize=True,
                return_dict=True,
            )
            return list(found["input_ids"])

        results: list[Any] = []
        config = self.generation_config.updated(
            **{name: value for name, value in settings.items() if name in vars(self.generation_config)}
        )
        others = {name: value for name, value in settings.items() if name not in vars(self.generation_config)}
        if config.max_new_tokens is None and config.max_length is None:
            config = config.updated(max_new_tokens=256)
        size = self.batch_size if batch_size is None else _positive(batch_size)
        for batch in _batches([encoded(prompt) for prompt in prompts], size):
            ids, mask = self._padded(batch)
            sequences = self.model.generate(
                ids, config, attention_mask=mask, tokenizer=self.tokenizer, **others
            )
            sequences = getattr(sequences, "sequences", sequences)
            new = sequences[:, ids.shape[1] :].view(len(batch), -1, sequences.shape[1] - ids.shape[1])
            for row, prompt_ids in zip(new, batch, strict=True):
                prompt = prompts[len(results)]
                results.append(
                    [
                        self._result(
                            prompt,
                            prompt_ids,
                            out,
                            full,
                            return_tensors,
                            clean_up_tokenization_spaces,
                            _is_chat(prompt) and goes_on(prompt),
                        )
                        for out in row
                    ]
                )
        return results[0] if single else results

    def _padded(self, batch: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, batch))
        pad = self._pad_id()
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in batch], device=self.device)
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in batch], device=self.device
        )
        return ids, mask

    def _pad_id(self) -> int:
        for source in (self.generation_config, self.tokenizer, self.model.config):
            id = getattr(source, "pad_token_id", None)
            if isinstance(id, int) and id >= 0:
                return id
        ends = self.generation_config.eos_token_ids
        return ends[0] if ends else 0

    def _result(
        self,
        prompt: Any,
        prompt_ids: list[int],
        new: torch.Tensor,
        full: bool,
        tensors: bool,
        clean: bool | None,
        goes_on: bool,
    ) -> dict[str, Any]:
        ids = new.tolist()
        if tensors:
            return {"generated_token_ids": prompt_ids + ids if full else ids}
        options: dict[str, Any] = {"skip_special_tokens": True}
        if clean is not None:
            options["clean_up_tokenization_spaces"] = clean
        # Decoded with the prompt, so that a space between the two is not lost.
        before = self.tokenizer.decode(prompt_ids, **options)
        added = self.tokenizer.decode(prompt_ids + ids, **options)[len(before) :]
        if not _is_chat(prompt):
            return {"generated_text": prompt + added if full else added}
        if not full:
            return {"generated_text": added}
        messages = [dict(message) for message in prompt]
        if goes_on:
            messages[-1]["content"] += added
        else:
            messages.append({"role": "assistant", "content": added})
        return {"generated_text": messages}


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and isinstance(value[0], Mapping)
    )


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"`batch_size`: expected a whole number of at least 1, got {batch_size}")
    return batch_size


def _batches(rows: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]
