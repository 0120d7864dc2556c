"""What a chat template may cost: the work done and the memory made are counted, and end in time.

Jinja's sandbox keeps a template from the machine, not from its time and memory. Here every piece of work has
a price in bytes of memory that it may make, paid before it is done: a round of a loop and the body of a macro
by their nodes, an operator, a filter, a call and a comparison by the sizes of what they read and what they
make (`sandbox` asks for the prices, `prices` has them). A template that has spent its allowance, or all its
seconds, ends with `jinja2.exceptions.SecurityError`. The allowance counts the same for every run; the seconds
are those of the processor in this thread, and are there for slow machines.

Who trusts a template that needs more sets `ALLOWANCE` or `MAX_SECONDS` of this module; they hold from the
next rendering on, and `math.inf` is no limit.

What is not held: a single call into C is not interrupted, so that a rendering may end a few seconds late, and
the memory of a whole process is not the template's. Where that is not enough, render in a process of its own
with limits of the operating system (`resource.setrlimit`).
"""

from __future__ import annotations

import contextvars
import sys
import time
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

#: The longest template, in code points; the longest known has some 30,000.
MAX_TEMPLATE = 1 << 18
#: What a rendering may spend, in bytes; besides, `PER_GIVEN` times the size of the messages and variables.
ALLOWANCE: float = 1 << 30
PER_GIVEN = 64
#: How long a rendering may take, in seconds of the processor.
MAX_SECONDS = 10.0
#: The widest field of a format.
MAX_WIDTH = 4096
#: The deepest indent of JSON.
MAX_INDENT = 16
#: The longest whole number, in bits.
MAX_BITS = 4096

#: What an operator that makes something, a filter or a call costs in itself: about a microsecond.
STEP = 256
#: What a comparison or a test costs in itself: it makes nothing.
LOOK = 32
#: What a list or dictionary, and an item of one, costs where its size has to be found out.
_CONTAINER = 256
_ITEM = 64
#: The clock is asked each time that so much was spent.
_TICK = 1 << 16


class Meter:
    """What one rendering has spent."""

    def __init__(self, variables: dict[str, Any]) -> None:
        #: The sizes of what the template is given. It cannot be changed, and lives as long as the rendering.
        self._known: dict[int, int] = {}
        self._allowed = ALLOWANCE + PER_GIVEN * self._measure(variables)
        self._left = self._allowed
        self._next_tick = self._left
        self._until = time.thread_time() + MAX_SECONDS

    def _measure(self, value: Any) -> int:
        if isinstance(value, str):
            return len(value) + 1
        if not isinstance(value, (list, tuple, dict)):
            return _size_of_atom(value)
        size = 1
        for part in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
            size += len(part) + 1 if isinstance(part, str) else self._measure(part)
        self._known[id(value)] = size
        return size

    def spend(self, amount: float) -> None:
        """Pays, or ends the rendering."""
        self._left -= amount
        if self._left < 0:
            raise SecurityError(
                "the chat template needs too much work: it repeats, nests or multiplies beyond the limit of "
                f"{self._allowed / (1 << 20):.0f} MiB for these messages; for a template that you trust, "
                "raise `llamatok.tokenization.chat.limits.ALLOWANCE`"
            )
        if self._left <= self._next_tick:
            self._next_tick = self._left - _TICK
            if time.thread_time() > self._until:
                raise SecurityError(
                    f"the chat template takes longer than {MAX_SECONDS:g} seconds; for a template that you "
                    "trust, raise `llamatok.tokenization.chat.limits.MAX_SECONDS`"
                )

    def size(self, value: Any) -> int:
        """The size of all that is within a value, paid for where it is found out by going through it.

        A list that holds another one twice counts it twice, as whatever shows or compares it does.
        """
        if isinstance(value, str):
            return len(value) + 1
        total = 0
        todo = [value]
        while todo:
            item = todo.pop()
            if isinstance(item, (str, bytes)):
                total += 1 + len(item)
                continue
            known = self._known.get(id(item))
            if known is not None:
                total += known
                continue
            total += _size_of_atom(item)
            if isinstance(item, dict):
                parts: Any = [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)):
                parts = item
            elif isinstance(item, Namespace):
                parts = list(item._Namespace__attrs.values())
                self.spend(4 * _CONTAINER)
            else:
                continue
            self.spend(_CONTAINER + _ITEM * len(parts))
            todo.extend(parts)
        return total

    def read(self, value: Any) -> None:
        """Pays for going through a value."""
        self.spend(self.size(value))

    def show(self, value: Any) -> None:
        """Pays for a value's text before it is made."""
        if isinstance(value, str):
            self.spend(4 * (len(value) + 1))
        else:
            # Its text is longer: digits, quotation marks, separators.
            self.spend(32 * self.size(value))

    def text(self, value: Any) -> str:
        """A value's text, paid for."""
        if isinstance(value, str):
            return value
        self.show(value)
        return str(value)

    def made(self, value: Any) -> Any:
        """Pays for what was made, without what it refers to."""
        if isinstance(value, (str, bytes, list, tuple, dict, set)):
            self.spend(sys.getsizeof(value))
        elif isinstance(value, Namespace):
            # Its dictionary is made from another one.
            self.spend(2 * sys.getsizeof(value._Namespace__attrs))
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise SecurityError(f"a number of the chat template has more than {MAX_BITS} bits")
        return value


def _size_of_atom(value: Any) -> int:
    if isinstance(value, int):
        return 1 + value.bit_length() // 64
    return 1 + len(value) if isinstance(value, range) else 1


_meter: contextvars.ContextVar[Meter] = contextvars.ContextVar("_meter")


def meter() -> Meter:
    """That of the rendering that runs."""
    return _meter.get()


def metered(variables: dict[str, Any], work: Callable[[], str]) -> str:
    """Does `work`, which renders a template with `variables`, within the limits.

    Raises:
        jinja2.exceptions.SecurityError: A limit is passed.
    """
    token = _meter.set(Meter(variables))
    try:
        return work()
    except (RecursionError, MemoryError, OverflowError) as error:
        raise SecurityError(f"the chat template asks for too much: {error or type(error).__name__}") from None
    finally:
        _meter.reset(token)
