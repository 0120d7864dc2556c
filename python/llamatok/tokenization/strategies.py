"""The names of what padding, truncation and tensors can be, and how a call's spelling of them is read."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Literal, TypeVar

from llamatok.tokenization.log import logger


class _Named(str, Enum):
    """An enumeration whose members are their names' strings, and whose errors list the choices."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        choices = ", ".join(repr(member.value) for member in cls)
        raise ValueError(f"{value!r} is not a valid {cls.__name__}, please select one of {choices}")

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class PaddingStrategy(_Named):
    """To what length rows are padded."""

    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TruncationStrategy(_Named):
    """From which sequence of a pair ids are taken."""

    ONLY_FIRST = "only_first"
    ONLY_SECOND = "only_second"
    LONGEST_FIRST = "longest_first"
    DO_NOT_TRUNCATE = "do_not_truncate"


class TensorType(_Named):
    """The library whose arrays are returned."""

    PYTORCH = "pt"
    NUMPY = "np"


Side = Literal["left", "right"]

#: The default of `model_max_length`, as in transformers: "no limit is known".
VERY_LARGE_INTEGER = int(1e30)
#: Above this, `model_max_length` is taken for "no limit is known".
LARGE_INTEGER = int(1e20)

_S = TypeVar("_S", bound=_Named)


def _read(kind: type[_S], value: object, off: _S, when_true: _S) -> _S:
    if value is None or value is False:
        return off
    if value is True:
        return when_true
    # An enumeration of transformers names the same things.
    return kind(value.value if isinstance(value, Enum) else value)


def side(value: object, what: str) -> Side:
    """A side by its name.

    Raises:
        ValueError: It is neither "left" nor "right".
    """
    if value == "left":
        return "left"
    if value == "right":
        return "right"
    raise ValueError(f"`{what}` must be 'left' or 'right', not {value!r}")


def resolve(
    padding: object,
    truncation: object,
    max_length: int | None,
    pad_to_multiple_of: int | None,
    model_max_length: int,
    has_pad_token: bool,
    verbose: bool = True,
) -> tuple[PaddingStrategy, TruncationStrategy, int | None]:
    """What a call's `padding`, `truncation` and `max_length` mean together (transformers 4.57, `__call__`).

    `max_length` alone truncates. A strategy that needs a length and is given none takes `model_max_length`,
    and is switched off where that is not known either.

    Raises:
        ValueError: An unknown name; padding without a padding token; a truncation length that is not a
            multiple of `pad_to_multiple_of`, or that is negative.
    """
    check_multiple(pad_to_multiple_of)
    if max_length is not None and padding is False and truncation is None:
        if verbose:
            logger.warning_once(
                "`max_length` is given without `truncation`: truncating with the strategy 'longest_first'. "
                "Say `truncation=True` to have it without this warning"
            )
        truncation = "longest_first"
    pad = _read(PaddingStrategy, padding, PaddingStrategy.DO_NOT_PAD, PaddingStrategy.LONGEST)
    cut = _read(
        TruncationStrategy, truncation, TruncationStrategy.DO_NOT_TRUNCATE, TruncationStrategy.LONGEST_FIRST
    )
    if (
        padding is True
        and verbose
        and max_length is not None
        and truncation in (None, False, "do_not_truncate")
    ):
        warnings.warn(
            "`max_length` is ignored when `padding`=`True` and there is no truncation strategy. "
            "To pad to max length, use `padding='max_length'`.",
            stacklevel=4,
        )
    if max_length is None:
        unknown = model_max_length > LARGE_INTEGER
        if pad is PaddingStrategy.MAX_LENGTH:
            if unknown:
                _warn_no_length("pad", verbose)
                pad = PaddingStrategy.DO_NOT_PAD
            else:
                max_length = model_max_length
        if cut is not TruncationStrategy.DO_NOT_TRUNCATE:
            if unknown:
                _warn_no_length("truncate", verbose)
                cut = TruncationStrategy.DO_NOT_TRUNCATE
            else:
                max_length = model_max_length
    if pad is not PaddingStrategy.DO_NOT_PAD and not has_pad_token:
        raise ValueError(
            "Asking to pad but the tokenizer does not have a padding token. Please select a token to use as "
            "`pad_token` `(tokenizer.pad_token = tokenizer.eos_token e.g.)` or add a new pad token via "
            "`tokenizer.add_special_tokens({'pad_token': '[PAD]'})`."
        )
    if (
        cut is not TruncationStrategy.DO_NOT_TRUNCATE
        and pad is not PaddingStrategy.DO_NOT_PAD
        and pad_to_multiple_of
        and max_length is not None
        and max_length % pad_to_multiple_of != 0
    ):
        raise ValueError(
            "Truncation and padding are both activated but truncation length "
            f"({max_length}) is not a multiple of pad_to_multiple_of ({pad_to_multiple_of})."
        )
    return pad, cut, max_length


def check_multiple(pad_to_multiple_of: int | None) -> None:
    """Raises ValueError for a `pad_to_multiple_of` that is negative; 0 is none."""
    if pad_to_multiple_of is not None and pad_to_multiple_of < 0:
        raise ValueError(f"`pad_to_multiple_of` must not be negative, not {pad_to_multiple_of}")


def _warn_no_length(verb: str, verbose: bool) -> None:
    if verbose:
        logger.warning_once(
            f"Asked to {verb} to the greatest length, but neither `max_length` nor `model_max_length` is "
            f"set: not {'padding' if verb == 'pad' else 'truncating'}"
        )
