"""Rendering chat templates: Jinja in its sandbox, with what transformers adds to it.

A template comes with a model and is not to be trusted: it runs in `ImmutableSandboxedEnvironment`, loads
nothing, sees plain data only (strings, numbers, lists, dictionaries), and few functions besides. What it may
cost is limited, too: see `limits`, and for how that is counted `sandbox` and `prices`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import jinja2

#: Below this, Jinja's sandbox is known to let templates out.
_OLDEST_JINJA = (3, 1, 6)

Span = tuple[int, int]


def render(
    template: str,
    variables: dict[str, Any],
    *,
    track_generation: bool = False,
) -> tuple[str, list[Span]]:
    """A template's text.

    Args:
        template: The Jinja template.
        variables: What it sees, in plain types (see `plain`): `messages`, `tools`, `documents`,
            `add_generation_prompt`, special tokens.
        track_generation: Whether to find what `{% generation %}` blocks give.

    Returns:
        The text, and the ranges of code points that `{% generation %}` blocks gave, in their order.

    Raises:
        jinja2.TemplateError: The template is faulty, raises an exception, or (`SecurityError`) does what the
            sandbox forbids or passes a limit.
        ImportError: Jinja is not installed, or too old.
    """
    compiled = _compiled(template)
    # The blocks' ends are marked in the text with something nobody can foresee, and so nobody can forge.
    nonce = f"\ue000{secrets.token_hex(16)}\ue001" if track_generation else ""
    from llamatok.tokenization.chat.limits import metered

    text = metered(variables, lambda: compiled.render(**variables, **{_NONCE: nonce}))
    return (text, []) if not nonce else _without_marks(text, nonce)


_NONCE = "_llamatok_generation_mark"
#: What follows the mark where a block begins, and where it ends.
_START, _END = "\ue002", "\ue003"


def _without_marks(text: str, nonce: str) -> tuple[str, list[Span]]:
    first, *rest = text.split(nonce)
    clean = [first]
    length = len(first)
    starts: list[int] = []
    spans: list[Span] = []
    for part in rest:
        if part.startswith(_START):
            starts.append(length)
        elif starts:
            spans.append((starts.pop(), length))
        clean.append(part[1:])
        length += len(part) - 1
    return "".join(clean), spans


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    compiled: jinja2.Template = _environment().compiled(template)
    return compiled


@functools.lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        import jinja2
        from jinja2 import nodes
        from jinja2.ext import Extension, loopcontrols
    except ImportError as error:
        raise ImportError("chat templates need Jinja: pip install 'llamatok[chat]'") from error
    version = tuple(int(part) for part in re.findall(r"\d+", jinja2.__version__)[:3])
    if version < _OLDEST_JINJA:
        raise ImportError(
            f"chat templates need Jinja 3.1.6 or newer, whose sandbox holds; this is {jinja2.__version__}: "
            "pip install -U jinja2"
        )

    from llamatok.tokenization.chat.limits import MAX_WIDTH, meter
    from llamatok.tokenization.chat.sandbox import Environment

    class Generation(Extension):
        """`{% generation %}...{% endgeneration %}`: the body, with marks around it if they are asked for."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's name for it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_marked", [nodes.ContextReference()])
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _marked(self, context: Any, caller: Any) -> str:
            nonce = context.get(_NONCE, "")
            body = caller()
            return f"{nonce}{_START}{body}{nonce}{_END}" if nonce else body

    class Namespace(jinja2.utils.Namespace):
        """Jinja's namespace without names that begin with an underscore."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, rest = args[0], args[1:]
            values = dict(*rest, **kwargs)
            for name in values:
                _refuse_underscore(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_underscore(name)
            super().__setitem__(name, value)

    def _refuse_underscore(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace of a chat template cannot hold {name!r}")

    def raise_exception(message: Any) -> None:
        # Its text is made while it can be paid for.
        raise jinja2.exceptions.TemplateError(None if message is None else meter().text(message))

    def strftime_now(format: str) -> str:
        if len(format) > MAX_WIDTH:
            raise jinja2.exceptions.SecurityError(
                f"`strftime_now` of the chat template is given more than {MAX_WIDTH} characters"
            )
        return datetime.now().strftime(format)

    def llamatok_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, loopcontrols],
        filters={"tojson": tojson},
    )
    del environment.globals["lipsum"]
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
        "namespace": Namespace,
        "dict": llamatok_dict,
    }
    return environment


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """A value as JSON, with HTML's characters as they are (Jinja's own filter escapes them)."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def plain(value: Any) -> Any:
    """A value made anew of plain types, so that a template can call no method of the caller's objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return plain(value.model_dump())
    return f"<{type(value).__name__}>"
