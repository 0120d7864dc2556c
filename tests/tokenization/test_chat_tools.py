"""Functions as JSON schemas, beside transformers' own where that is installed."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest

from llamatok.tokenization import get_json_schema
from llamatok.tokenization.chat import DocstringParsingException, TypeHintParsingException


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


def plain(a: int, b: float = 1.0, c: str = "", d: bool = False) -> str:
    """Does something.

    Args:
        a: The first.
        b: The second, which has
            two lines: with a colon.
        c: The third (choices: ["x", "y"])
        d: The fourth.

    Returns:
        A text.
    """
    return ""


def nested(
    a: list[int],
    b: dict[str, list[float]],
    c: tuple[int, str],
    d: int | None,
    e: int | str,
    f: list[int] | str,
) -> None:
    """Takes what holds other things.

    It has a second paragraph.

    Args:
        a: A list.
        b: A dictionary.
        c: A tuple.
        d: Something or nothing.
        e: One or the other.
        f: A list or a text.
    """


def chosen(a: Literal["x", "y"], b: Color, c: Literal[1, "z"], d: Any, e: list, f: dict) -> int:  # type: ignore[type-arg]
    """Chooses.

    Args:
        a: One of two.
        b: A color.
        c: Of two types.
        d: Anything.
        e: A list.
        f: A dictionary.
    """
    return 0


def empty() -> None:
    """Does nothing."""


class Holder:
    def method(self, x: int) -> int:
        """Takes a number.

        Args:
            x: The number.
        """
        return x


@pytest.mark.parametrize("function", [plain, nested, chosen, empty, Holder().method, Holder.method])
def test_schema_is_that_of_transformers(function: Any) -> None:
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    assert get_json_schema(function) == reference.get_json_schema(function)


def test_schema() -> None:
    schema = get_json_schema(plain)["function"]
    assert schema["name"] == "plain"
    assert schema["description"] == "Does something."
    assert schema["parameters"]["required"] == ["a"]
    assert schema["parameters"]["properties"]["c"] == {
        "type": "string",
        "enum": ["x", "y"],
        "description": "The third",
    }
    assert schema["return"] == {"type": "string", "description": "A text."}


def no_docstring(a: int) -> None: ...


def no_description(a: int) -> None:
    """Says nothing of its argument."""


def no_hint(a) -> None:  # type: ignore[no-untyped-def]
    """Has no hint.

    Args:
        a: What?
    """


def foreign(a: Holder) -> None:
    """Takes an object.

    Args:
        a: The object.
    """


def one_tuple(a: tuple[int]) -> None:
    """Takes a tuple.

    Args:
        a: The tuple.
    """


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (no_docstring, DocstringParsingException),
        (no_description, DocstringParsingException),
        (no_hint, TypeHintParsingException),
        (foreign, TypeHintParsingException),
        (one_tuple, TypeHintParsingException),
    ],
)
def test_functions_without_a_schema(function: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        get_json_schema(function)
