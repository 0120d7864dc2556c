"""Python functions as JSON schemas, for templates that tell a model of the tools it may use."""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

_NAMES: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
}
_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*$", re.MULTILINE
)
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE | re.DOTALL)


class TypeHintParsingException(Exception):
    """A type hint that has no JSON schema."""


class DocstringParsingException(Exception):
    """A docstring that does not say what a schema needs."""


def get_json_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function, from its type hints and its docstring, as `transformers.utils` makes it.

    >>> def multiply(x: float, y: float = 1.0) -> float:
    ...     '''Multiplies two numbers.
    ...
    ...     Args:
    ...         x: The first number.
    ...         y: The second number (choices: [1.0, 2.0])
    ...     '''
    ...     return x * y
    >>> schema = get_json_schema(multiply)["function"]
    >>> schema["description"], schema["parameters"]["required"]
    ('Multiplies two numbers.', ['x'])
    >>> schema["parameters"]["properties"]["y"]
    {'type': 'number', 'enum': [1.0, 2.0], 'description': 'The second number'}

    Args:
        func: The function. Each parameter has a type hint, and a description in the docstring's section
            "Args:" (Google's style); one that ends in `(choices: [...])` lists its values.

    Raises:
        DocstringParsingException: There is no docstring, or it does not describe a parameter.
        TypeHintParsingException: A parameter has no type hint, or one without a schema.
    """
    name = getattr(func, "__name__", "operation")
    doc = inspect.getdoc(func)
    if not doc:
        raise DocstringParsingException(
            f"Cannot generate JSON schema for {name} because it has no docstring!"
        )
    description, arguments, returns = _parse(doc.strip())
    parameters = _parameters(func, name)
    returned = parameters["properties"].pop("return", None)
    if returned is not None and returns is not None:
        returned["description"] = returns
    for parameter, schema in parameters["properties"].items():
        if parameter not in arguments:
            raise DocstringParsingException(
                f"Cannot generate JSON schema for {name} because the docstring has no description for the "
                f"argument '{parameter}'"
            )
        text = arguments[parameter]
        choices = _CHOICES.search(text)
        if choices:
            values = json.loads(choices.group(1))
            schema["enum"] = [value.strip() if isinstance(value, str) else value for value in values]
            text = text[: choices.start()].strip()
        schema["description"] = text
    function = {"name": name, "description": description, "parameters": parameters}
    if returned is not None:
        function["return"] = returned
    return {"type": "function", "function": function}


def _parse(doc: str) -> tuple[str, dict[str, str], str | None]:
    """The description, those of the arguments, and that of what is returned."""
    headings = [(match.group(1), match.start(), match.end()) for match in _SECTION.finditer(doc)]
    bounds = [*(start for _, start, _ in headings[1:]), len(doc)]
    description = doc[: headings[0][1]].strip() if headings else doc
    arguments: dict[str, str] = {}
    returns: str | None = None
    for (heading, _, start), stop in zip(headings, bounds, strict=False):
        body = doc[start:stop].strip("\n")
        if heading in ("Args", "Arguments", "Parameters"):
            arguments = _arguments(body)
        elif heading == "Returns":
            returns = body.strip() or None
    return description, arguments, returns


def _arguments(body: str) -> dict[str, str]:
    lines = [line for line in body.splitlines() if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = re.match(r"(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line[indent:])
        if match and not line[indent:][:1].isspace():
            current = found[match.group(1)] = [match.group(2).strip()]
        else:
            current.append(line.strip())
    return {name: " ".join(part for part in parts if part) for name, parts in found.items()}


def _parameters(func: Callable[..., Any], name: str) -> dict[str, Any]:
    hints = typing.get_type_hints(func)
    required: list[str] = []
    properties: dict[str, Any] = {}
    for index, (parameter, details) in enumerate(inspect.signature(func).parameters.items()):
        hinted = details.annotation is not inspect.Parameter.empty
        if index == 0 and parameter in ("self", "cls") and not hinted:
            continue
        if not hinted:
            raise TypeHintParsingException(f"Argument {parameter} is missing a type hint in function {name}")
        if details.default is inspect.Parameter.empty:
            required.append(parameter)
        properties[parameter] = _schema(hints[parameter])
    if "return" in hints:
        # A model never writes what a function returns, so a hint without a schema does no harm there.
        with contextlib.suppress(TypeHintParsingException):
            properties["return"] = _schema(hints["return"])
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _schema(hint: Any) -> dict[str, Any]:
    """The schema of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is None:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return _values([member.value for member in hint], hint)
        if hint in _NAMES:
            return dict(_NAMES[hint])
    elif origin is Union or origin is types.UnionType:
        return _union(arguments)
    elif origin is Literal:
        return _values(list(arguments), hint)
    elif origin is list:
        return {"type": "array", "items": _schema(arguments[0])}
    elif origin is tuple:
        if len(arguments) == 1 or ... in arguments:
            raise TypeHintParsingException(f"use list[...] instead of {hint} for a number of values")
        return {"type": "array", "prefixItems": [_schema(argument) for argument in arguments]}
    elif origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    raise TypeHintParsingException(
        f"Couldn't parse the type hint {hint!r}: use int, float, str, bool, Literal, an Enum, and list, "
        "tuple, dict and Union of these, or pass a JSON schema instead of the function"
    )


def _union(arguments: tuple[Any, ...]) -> dict[str, Any]:
    schemas = [_schema(argument) for argument in arguments if argument is not type(None)]
    if len(schemas) == 1:
        schema = schemas[0]
    elif all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        names = sorted({schema["type"] for schema in schemas})
        schema = {"type": names[0] if len(names) == 1 else names}
    else:
        schema = {"anyOf": schemas}
    if type(None) in arguments:
        schema["nullable"] = True
    return schema


def _values(values: list[Any], hint: Any) -> dict[str, Any]:
    if not values or any(type(value) not in _NAMES or type(value) in (list, tuple, dict) for value in values):
        raise TypeHintParsingException(f"the values of {hint!r} must be int, float, str, bool or None")
    kinds = list(dict.fromkeys(_NAMES[type(value)]["type"] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}
