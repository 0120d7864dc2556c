"""When a row of a batch is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from llamatok.generation.config import GenerationConfig
from llamatok.generation.text import Tokenizer

__all__ = [
    "StoppingCriteria",
    "StoppingCriteriaList",
    "build_stopping",
    "eos",
    "max_length",
    "max_time",
    "stop_strings",
]

#: From ids (int64, rows × length) and the scores of the steps so far to bool: a tensor of one value a row, or
#: one value for all rows.
StoppingCriteria = Callable[[Tensor, Any], "Tensor | bool"]


class StoppingCriteriaList(list[StoppingCriteria]):
    """Criteria, any of which finishes a row."""

    def __call__(self, ids: Tensor, scores: Any = None) -> Tensor:
        done = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        for criterion in self:
            done = done | criterion(ids, scores)
        return done


def eos(ids: Iterable[int]) -> StoppingCriteria:
    """Finishes rows whose last token is one of `ids`."""
    ends = list(ids)
    if len(ends) == 1:
        return lambda sequences, scores: sequences[:, -1] == ends[0]
    table = torch.tensor(ends)
    return lambda sequences, scores: torch.isin(sequences[:, -1], table.to(sequences.device))


def max_length(length: int) -> StoppingCriteria:
    """Finishes all rows at `length` tokens, the prompt included."""
    return lambda sequences, scores: sequences.shape[1] >= length


def max_time(seconds: float) -> StoppingCriteria:
    """Finishes all rows after `seconds`, counted from now."""
    end = time.monotonic() + seconds
    return lambda sequences, scores: time.monotonic() > end


#: The letters of a stop string's end that are looked for first.
_TAIL = 8


def _window(letters: int) -> int:
    """How many tokens hold so many letters, and whatever the last token adds."""
    # A character takes at most four tokens; one more hides how a text's first token is decoded.
    return 4 * letters + 8


class _StopStrings:
    """Finishes rows whose text has a stop string that the last token completed."""

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = tuple(strings)
        self._tails = tuple({stop[-_TAIL:] for stop in strings})
        self._longest = max(map(len, strings))

    def __call__(self, sequences: Tensor, scores: Any) -> Tensor:
        return torch.tensor([self._ends(row) for row in sequences], device=sequences.device)

    def _ends(self, row: Tensor) -> bool:
        if self._longest > _TAIL:
            text, seen = self._decoded(row, _TAIL)
            # A part of a character may spoil those behind it: only the whole window tells then.
            if "\ufffd" not in text and not _completed(text, seen, self._tails):
                return False
        text, seen = self._decoded(row, self._longest)
        return _completed(text, seen, self._strings)

    def _decoded(self, row: Tensor, letters: int) -> tuple[str, int]:
        """The text of a row's end, and how much of it was there before the last token."""
        ids = row[-_window(letters) :].tolist()
        # A character that lacked bytes is not shown yet. What ended before the last token was seen then.
        return self._tokenizer.decode(ids), len(self._tokenizer.decode(ids[:-1]).rstrip("\ufffd"))


def _completed(text: str, seen: int, strings: tuple[str, ...]) -> bool:
    """Whether one of `strings` ends behind the first `seen` letters."""
    return any(text.endswith(strings, 0, end) for end in range(seen + 1, len(text) + 1))


def stop_strings(tokenizer: Tokenizer, strings: str | Sequence[str]) -> StoppingCriteria:
    """Finishes rows whose text contains one of `strings`, as soon as a token completes it.

    The token may go on after the string, and the string may begin in the prompt, as in transformers 5.x.
    """
    return _StopStrings(tokenizer, [strings] if isinstance(strings, str) else strings)


def build_stopping(
    config: GenerationConfig,
    length: int,
    tokenizer: Tokenizer | None = None,
    custom: Iterable[StoppingCriteria] = (),
) -> StoppingCriteriaList:
    """The criteria of a configuration, but for its length, which the loops know.

    Raises:
        ValueError: `stop_strings` is set and there is no tokenizer.
    """
    found = StoppingCriteriaList([max_length(length)])
    if config.eos_token_ids:
        found.append(eos(config.eos_token_ids))
    if config.max_time is not None:
        found.append(max_time(config.max_time))
    if config.stop_strings:
        if tokenizer is None:
            raise ValueError("`stop_strings` needs the tokenizer: give `tokenizer=`")
        found.append(stop_strings(tokenizer, config.stop_strings))
    found.extend(custom)
    return found
