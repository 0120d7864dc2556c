"""What a chat template may cost: a sandbox that counts the work done and the memory made, and ends in time.

Jinja's sandbox keeps a template from the machine, not from its time and memory. Here every piece of work has
a price in bytes of memory that it may make, paid before it is done: a round of a loop and the body of a macro
by the number of their nodes, an operator, a filter, a call and a comparison by the sizes of what they read
and what they make. A template that has spent its allowance, or all its seconds, ends with
`jinja2.exceptions.SecurityError`. The allowance counts the same on every machine; the seconds are there for
slow ones.

What is not held: a single call into C is not interrupted, so that a rendering may end a few seconds late, and
the memory of a whole process is not the template's. Where that is not enough, render in a process of its own
with limits of the operating system (`resource.setrlimit`).
"""

from __future__ import annotations

import contextvars
import functools
import operator
import re
import sys
import time
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

#: The longest template, in code points; the longest known has some 30,000.
MAX_TEMPLATE = 1 << 18
#: What a rendering may spend, in bytes; besides, `PER_GIVEN` times the size of the messages and variables.
ALLOWANCE = 1 << 28
PER_GIVEN = 64
#: How long a rendering may take, in seconds.
MAX_SECONDS = 10.0
#: The widest field that text is padded to, and the deepest indent.
MAX_WIDTH = 4096
MAX_INDENT = 16
#: The longest whole number, in bits.
MAX_BITS = 4096

#: What a node of the template costs each time: about the memory of a list's or dictionary's item.
_NODE = 32
#: What an operator, a filter or a call costs in itself, and a list or dictionary, and an item of one, where
#: its size has to be found out. A microsecond costs about as much.
_STEP = 256
_CONTAINER = 256
_ITEM = 64
#: A piece of a text that was split.
_PIECE = 64

#: Filters that look at none of the items.
_SHALLOW = frozenset({"length", "count", "first", "default", "d", "items", "safe"})
#: Filters that take long for each character.
_SLOW = frozenset(
    {"pprint", "urlize", "striptags", "wordwrap", "xmlattr", "wordcount", "title", "filesizeformat"}
)
#: Tests that read all of both sides.
_COMPARING = frozenset(
    {"in", "eq", "equalto", "==", "ne", "!=", "gt", "greaterthan", ">", "ge", ">=", "lt", "lessthan", "<",
     "le", "<="}
)  # fmt: skip
_WIDTH = re.compile(r"%[^a-zA-Z%]*(\d{5,}|\*)|\{[^{}]*:[^{}]*\d{5,}")
_ATOMS = (type(None), bool, int, float)
#: What Jinja itself hands to some filters.
_JINJAS = (Context, nodes.EvalContext, jinja2.Environment)


class Meter:
    """What one rendering has spent."""

    def __init__(self, variables: dict[str, Any]) -> None:
        #: The sizes of what the template is given. It cannot be changed, and lives as long as the rendering.
        self._known: dict[int, int] = {}
        given = self._measure(variables)
        self._left = ALLOWANCE + PER_GIVEN * given
        self._until = time.monotonic() + MAX_SECONDS

    def _measure(self, value: Any) -> int:
        if isinstance(value, str):
            return len(value) + 1
        if not isinstance(value, (list, tuple, dict)):
            return 1
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        size = 1 + sum(map(self._measure, parts))
        self._known[id(value)] = size
        return size

    def spend(self, amount: int) -> None:
        """Pays, or ends the rendering."""
        self._left -= amount
        if self._left < 0:
            raise SecurityError(
                "the chat template needs too much work or memory: it repeats, nests or multiplies beyond the "
                f"limit of {ALLOWANCE >> 20} MiB (see `llamatok.tokenization.chat.limits`)"
            )
        if time.monotonic() > self._until:
            raise SecurityError(f"the chat template takes longer than {MAX_SECONDS:.0f} seconds")

    def size(self, value: Any) -> int:
        """The size of all that is within a value, paid for where it is found out by going through it.

        A list that holds another one twice counts it twice, as whatever shows or compares it does.
        """
        if isinstance(value, str):
            return len(value) + 1
        if isinstance(value, _ATOMS):
            return 1
        total = 0
        todo = [value]
        while todo:
            item = todo.pop()
            total += 1
            if isinstance(item, (str, bytes)):
                total += len(item)
                continue
            if isinstance(item, _ATOMS):
                continue
            known = self._known.get(id(item))
            if known is not None:
                total += known
                continue
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

    def made(self, value: Any) -> Any:
        """Pays for what was made, without what it refers to."""
        if isinstance(value, (str, bytes, list, tuple, dict)):
            self.spend(sys.getsizeof(value))
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise SecurityError(f"a number of the chat template has more than {MAX_BITS} bits")
        return value


_meter: contextvars.ContextVar[Meter] = contextvars.ContextVar("_meter")


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


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, metered."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, *, filters: dict[str, Callable[..., Any]], **options: Any) -> None:
        # What is constant must not be worked out while the template is compiled, unpaid.
        super().__init__(**options, optimized=False, finalize=_shown)
        self.filters |= filters
        self.filters = {name: _filter(name, function) for name, function in self.filters.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _test(name, function) for name, function in tests.items()}
        for name, function in _OWN.items():
            setattr(self, name, function)

    def compiled(self, source: str) -> Any:
        """The template of a text.

        Raises:
            jinja2.TemplateSyntaxError: It is faulty, too long, or nested too deeply.
        """
        if len(source) > MAX_TEMPLATE:
            raise TemplateSyntaxError(
                f"the chat template has {len(source)} characters, more than the limit of {MAX_TEMPLATE}", 1
            )
        try:
            tree = _Pricing().visit(self.parse(source))
            code = self.compile(tree)
        except (RecursionError, MemoryError, SyntaxError, OverflowError):
            raise TemplateSyntaxError("the chat template is nested too deeply", 1) from None
        return self.template_class.from_code(self, code, self.make_globals(None), None)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        meter = _meter.get()
        meter.spend(_STEP)
        if operator == "*":
            _check_product(meter, left, right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            _check_format(meter, left, (right,))
        elif (
            operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple))
        ):
            meter.spend(len(left) + len(right))
        return meter.made(super().call_binop(context, operator, left, right))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            _meter.get().read(argument)
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        own = _OWN.get(getattr(__obj, "__name__", ""))
        if own is not None and own is __obj:
            return own(*args)
        meter = _meter.get()
        meter.spend(_STEP)
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, (str, bytes)) or owner in (str, bytes):
            _check_text_method(meter, owner, name, args, kwargs)
        elif isinstance(owner, (list, tuple, dict, range, int, float)) or owner in (dict, int, float):
            for value in (owner if name in ("index", "count") else None, *args, *kwargs.values()):
                meter.read(value)
            if name == "to_bytes" and args and isinstance(args[0], int) and args[0] > MAX_WIDTH:
                raise SecurityError(f"a number of the chat template is made into more than {MAX_WIDTH} bytes")
        elif name in ("changed", "llamatok_dict"):
            for value in (*args, *kwargs.values()):
                meter.read(value)
        return meter.made(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__
        by_map = value.__name__ == "format_map"

        def format(*args: Any, **kwargs: Any) -> str:
            meter = _meter.get()
            meter.spend(_STEP + 64 * len(text))
            for given in (*args, *kwargs.values()):
                meter.read(given)
            # What `Markup` would escape goes in as it stands: the text of a chat is no HTML.
            formatter = _Formatter(self)
            made = formatter.vformat(str(text), () if by_map else args, args[0] if by_map else kwargs)
            return str(meter.made(made))

        return format


class _Formatter(SandboxedFormatter):
    """`str.format` with fields of limited width, each paid for."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if any(int(number) > MAX_WIDTH for number in re.findall(r"[0-9]+", format_spec)):
            raise SecurityError(f"a field of the chat template is wider than {MAX_WIDTH}")
        _meter.get().read(value)
        return str(_meter.get().made(super().format_field(value, format_spec)))


@pass_context
def _shown(context: Context, value: Any) -> Any:
    """Pays for a value's text before it is made."""
    meter = _meter.get()
    # Of what is no text, the text is longer: digits, quotation marks, separators.
    meter.spend(4 * meter.size(value) if isinstance(value, str) else 32 * meter.size(value))
    return value


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        meter = _meter.get()
        meter.spend(_STEP)
        given = [value for value in (*args, *kwargs.values()) if not isinstance(value, _JINJAS)]
        if name not in _SHALLOW:
            size = sum(map(meter.size, given))
            meter.spend(size * (64 if name in _SLOW else 1))
            _check_filter(meter, name, given)
        return meter.made(function(*args, **kwargs))

    return paid


def _test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        meter = _meter.get()
        meter.spend(_STEP)
        for value in (*args, *kwargs.values()):
            if name in _COMPARING or isinstance(value, str):
                meter.read(value)
        return function(*args, **kwargs)

    return paid


def _check_filter(meter: Meter, name: str, given: list[Any]) -> None:
    """Refuses what would make much more than it is given."""
    texts = [value for value in given if isinstance(value, str)]
    numbers = [value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if name in ("center", "indent", "round", "batch", "slice", "truncate", "wordwrap"):
        # The number that is rounded may be as large as it likes.
        counts = [number for number in numbers if name != "round" or number is not given[0]]
        if any(abs(count) > (300 if name == "round" else MAX_WIDTH) for count in counts):
            raise SecurityError(f"a number is too large for the filter `{name}` of the chat template")
        if name == "indent" and texts:
            width = max([len(text) for text in texts[1:]] + [int(number) for number in numbers] + [4])
            meter.spend(width * (1 + texts[0].count("\n")))
        elif name == "wordwrap" and texts:
            meter.spend(len(texts[0]) * max([len(text) for text in texts[1:]] + [1]))
    elif name == "tojson" and given:
        _check_json(meter, given)
    elif name == "format" and texts:
        _check_format(meter, texts[0], tuple(given[1:]))
    elif name == "replace" and len(texts) > 2:
        meter.spend(_growth_of_replacing(*texts[:3]))
    elif name == "join" and given:
        items = given[0]
        if len(texts) > isinstance(items, str) and hasattr(items, "__len__"):
            meter.spend(len(texts[-1]) * len(items))
    elif name == "sum" and given:
        items = given[0] if isinstance(given[0], (list, tuple)) else []
        if any(
            not isinstance(item, (*_ATOMS, dict))
            for item in (*items, *given[1:])
            if not isinstance(item, str)
        ):
            raise SecurityError("the filter `sum` of a chat template adds numbers only")
    elif name == "urlencode":
        meter.spend(8 * sum(map(len, texts)))


def _check_json(meter: Meter, given: list[Any]) -> None:
    value, *options = given
    size = meter.size(value)
    # Escapes take six characters for one. Separators and an indent that is text come with each item.
    meter.spend(size * (6 + sum(meter.size(option) for option in options)))
    indents = [
        option for option in options if isinstance(option, (int, str)) and not isinstance(option, bool)
    ]
    if not indents:
        return
    width = max(len(indent) if isinstance(indent, str) else indent for indent in indents)
    if width > MAX_INDENT:
        raise SecurityError(f"`tojson` of the chat template indents by more than {MAX_INDENT}")
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, (list, tuple, dict)):
            parts = list(item.values()) if isinstance(item, dict) else item
            meter.spend((len(parts) + 1) * (depth * width + _NODE))
            todo += [(part, depth + 1) for part in parts]


def _check_product(meter: Meter, left: Any, right: Any) -> None:
    for one, times in ((left, right), (right, left)):
        if isinstance(one, (str, bytes, list, tuple)) and isinstance(times, int):
            width = 4 if isinstance(one, str) else 1 if isinstance(one, bytes) else 8
            meter.spend(len(one) * max(times, 0) * width)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError(f"a number of the chat template has more than {MAX_BITS} bits")


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise SecurityError(f"a number of the chat template has more than {MAX_BITS} bits")


def _check_format(meter: Meter, text: Any, given: tuple[Any, ...]) -> None:
    shown = text if isinstance(text, str) else text.decode("latin-1")
    if _WIDTH.search(shown):
        raise SecurityError("a field of the chat template is too wide")
    fields = 1 + shown.count("%")
    meter.spend(fields * 9_999 if re.search(r"%[^a-zA-Z%]*\d", shown) else 64 * fields)
    # By name, one value may be shown by each of the fields.
    by_name = fields if "(" in shown else 1
    meter.spend(4 * by_name * sum(map(meter.size, given)))


def _growth_of_replacing(text: Any, old: Any, new: Any) -> int:
    count = text.count(old) if old else len(text) + 1
    return int(4 * count * len(new))


def _check_text_method(
    meter: Meter, owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Pays for a method of a str or bytes before it is called."""
    length = len(owner) if isinstance(owner, (str, bytes)) else 0
    given = (*args, *kwargs.values())
    meter.spend(length + sum(map(meter.size, given)))
    texts = [value for value in given if isinstance(value, type(owner))]
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        if any(isinstance(value, int) and abs(value) > MAX_WIDTH for value in given):
            raise SecurityError(f"the chat template pads to more than {MAX_WIDTH}")
        if name == "expandtabs" and isinstance(owner, (str, bytes)):
            tabs = owner.count("\t") if isinstance(owner, str) else owner.count(b"\t")
            meter.spend(4 * tabs * max([value for value in given if isinstance(value, int)] + [8]))
    elif name == "replace" and len(texts) > 1:
        meter.spend(_growth_of_replacing(owner, texts[0], texts[1]))
    elif name == "join" and given:
        # Of anything but a list the items are counted first, which is as much work.
        count = len(given[0]) if hasattr(given[0], "__len__") else 0
        meter.spend(4 * count * (length + 1))
    elif name == "split" and texts:
        meter.spend(_PIECE * (owner.count(texts[0]) if texts[0] else 0))
    elif name in ("split", "splitlines"):
        meter.spend(_PIECE * length // 2)
    elif name in ("rfind", "rindex", "rsplit", "rpartition") and texts:
        # These take the product of the lengths at worst.
        meter.spend(length * len(texts[0]) // 16 + (_PIECE * owner.count(texts[0]) if texts[0] else 0))
    elif name == "rsplit":
        meter.spend(_PIECE * length // 2)
    elif name == "translate":
        table = given[0] if given and isinstance(given[0], dict) else {}
        meter.spend(4 * length * max([len(v) for v in table.values() if isinstance(v, str)] + [1]))


def _compared(name: str, left: Any, right: Any) -> Any:
    meter = _meter.get()
    if name in ("in", "notin"):
        inside = 1 if isinstance(right, dict) else meter.size(right)
        meter.spend(_STEP + inside + meter.size(left))
    elif isinstance(left, _ATOMS) or isinstance(right, _ATOMS):
        meter.spend(_STEP)
    else:
        # Values of other lengths differ at once.
        meter.spend(_STEP + min(meter.size(left), meter.size(right)))
    return _COMPARISONS[name](left, right)


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


def _spent(amount: int) -> bool:
    _meter.get().spend(_STEP + amount)
    return True


def _read(value: Any) -> Any:
    meter = _meter.get()
    meter.spend(4 * meter.size(value) if isinstance(value, str) else 32 * meter.size(value))
    return value


def _made(value: Any) -> Any:
    return _meter.get().made(value)


#: What the priced tree calls, by the names of functions; they are attributes of the environment.
_OWN: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (_compared, _spent, _read, _made)
}


def _call(function: Callable[..., Any], *args: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(function.__name__), list(args), [], None, None)


def _price(body: list[nodes.Node]) -> int:
    price = 0
    todo = list(body)
    while todo:
        node = todo.pop()
        price += _NODE
        if isinstance(node, nodes.TemplateData):
            price += 4 * len(node.data)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            price += 4 * len(node.value)
        todo.extend(node.iter_child_nodes())
    return price


class _Pricing(NodeTransformer):
    """Puts a price on what is done again and again, and on what reads or makes values by Jinja's own code."""

    def _paid_first(self, node: Any) -> Any:
        price = nodes.Const(_price(node.body))
        node = self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call(_spent, price)).set_lineno(node.lineno))
        return node

    visit_Macro = visit_CallBlock = visit_Block = _paid_first

    def visit_For(self, node: nodes.For) -> Any:
        if node.test is not None:
            price = nodes.Const(_price([node.test]))
            node.test = nodes.And(_call(_spent, price), node.test).set_lineno(node.lineno)
        return self._paid_first(node)

    def visit_Compare(self, node: Any) -> Any:
        node = self.generic_visit(node)
        if len(node.ops) == 1:
            return _call(_compared, nodes.Const(node.ops[0].op), node.expr, node.ops[0].expr).set_lineno(
                node.lineno
            )
        node.expr = _call(_read, node.expr)
        for operand in node.ops:
            operand.expr = _call(_read, operand.expr)
        return node.set_lineno(node.lineno)

    def visit_Concat(self, node: Any) -> Any:
        node = self.generic_visit(node)
        node.nodes = [_call(_read, part) for part in node.nodes]
        return node.set_lineno(node.lineno)

    def visit_Getitem(self, node: Any) -> Any:
        node = self.generic_visit(node)
        return _call(_made, node).set_lineno(node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: Any) -> Any:
        node = self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _call(_read, node.key).set_lineno(node.lineno)
        return node
