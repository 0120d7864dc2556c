"""What filters, tests, methods and operators of a chat template cost, by what they read and make.

Each pays before the work is done, in the currency of `limits`. What Jinja makes text of is made text of here
first, and what it goes through by an iterator is a list here, so that the price is that of the work itself.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from markupsafe import Markup

from llamatok.tokenization.chat.limits import LOOK, MAX_BITS, MAX_INDENT, MAX_WIDTH, STEP, Meter, meter

#: Filters that look at none of the items, or only hand them on one by one.
_LAZY = frozenset(
    {"map", "select", "reject", "selectattr", "rejectattr", "batch", "slice", "items", "reverse", "list"}
)
_SHALLOW = _LAZY | {"length", "count", "first", "last", "default", "d", "attr", "random"}
#: Filters that go through all the items.
_GATHERING = frozenset({"join", "sum", "sort", "unique", "min", "max", "groupby", "urlencode"})
#: Filters that take long for each character, and for each pair of those of a word.
_SLOW = frozenset(
    {"pprint", "urlize", "striptags", "wordwrap", "xmlattr", "wordcount", "title", "filesizeformat"}
)
#: Tests that read both sides, by the operators of the same name.
_COMPARING = frozenset(
    {"in", "eq", "equalto", "==", "ne", "!=", "gt", "greaterthan", ">", "ge", ">=", "lt", "lessthan", "<",
     "le", "<="}
)  # fmt: skip
#: What is handed on by a filter, and a piece of a text that was split.
_PIECE = 64
#: A character that became a text of its own.
_CHARACTER = 80
_ATOMS = (type(None), bool, int, float)
_ANYTHING = inspect.signature(lambda value, *args, **kwargs: None)


def paid_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays first."""
    signature = _signature(function)
    first = _handed_by_jinja(function)
    # To bind arguments to their names takes longer than most filters.
    by_name = name in _FILTERS or name in _GATHERING

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        purse = meter()
        purse.spend(STEP + 16 * len(args) + 128 * len(kwargs))
        given = list(args[first:])
        if given and name in _GATHERING and isinstance(given[0], Iterator):
            given[0] = list(given[0])
        if by_name:
            try:
                bound = signature.bind(*given, **kwargs)
            except TypeError:
                # The filter itself says what is wrong.
                return function(*args, **kwargs)
        if given and name in _GATHERING and bound.arguments.get("attribute") is not None:
            default = bound.arguments.get("default")
            seen = _attributes(args[0], given[0], bound.arguments["attribute"], default)
            purse.read(seen)
            bound.arguments[next(iter(bound.arguments))] = seen
        if name not in _SHALLOW:
            size = sum(map(purse.size, (*given, *kwargs.values())))
            purse.spend(size * (64 if name in _SLOW else 1))
        elif name in _LAZY:
            for value in (*given[1:], *kwargs.values()):
                purse.read(value)
            if given and isinstance(given[0], str):
                purse.spend(_CHARACTER * len(given[0]))
        if name in _FILTERS:
            _FILTERS[name](purse, *bound.args, **bound.kwargs)
        made = function(*args[:first], *given, **kwargs)
        if name in _LAZY and isinstance(made, Iterator):
            return _handed_on(purse, made, name in ("batch", "slice"))
        return purse.made(made)

    return paid


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a filter, without what Jinja itself hands to it."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return _ANYTHING
    if not hasattr(inspect.unwrap(function), "jinja_pass_arg"):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _handed_by_jinja(function: Callable[..., Any]) -> int:
    """How many arguments come from Jinja itself: a context, or none."""
    return int(hasattr(function, "jinja_pass_arg"))


def _attributes(jinjas: Any, items: Any, names: Any, default: Any) -> list[Any]:
    """What `attribute` makes a filter look at."""
    environment = jinjas if isinstance(jinjas, jinja2.Environment) else jinjas.environment
    parts = names.split(",") if isinstance(names, str) else [names]
    getters = [make_attrgetter(environment, part, default=default) for part in parts]
    return [getter(item) for item in items for getter in getters]


def _handed_on(purse: Meter, items: Iterator[Any], lists: bool) -> Iterator[Any]:
    for item in items:
        purse.spend(_PIECE + (_PIECE + 8 * len(item) if lists else 0))
        yield item


def paid_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that pays first."""
    first = _handed_by_jinja(function)
    compares = name in _COMPARING

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        given = (*args[first:], *kwargs.values())
        purse = meter()
        purse.spend(LOOK)
        if name == "in" and len(given) == 2 and isinstance(given[1], Iterator):
            return found_by(purse, given[0], given[1])
        if compares and len(given) == 2:
            pay_comparison(purse, name, *given)
        elif name in ("lower", "upper", "filter", "test"):
            for value in given:
                purse.show(value)
        elif name in ("divisibleby", "even", "odd") and given and isinstance(given[0], (str, bytes)):
            # A remainder of a text is a format.
            pay_formatting(purse, given[0], given[1] if len(given) > 1 else 2)
        return function(*args, **kwargs)

    return paid


def pay_comparison(purse: Meter, name: str, left: Any, right: Any) -> None:
    """Pays for a comparison."""
    if name in ("in", "notin"):
        purse.spend(LOOK + (1 if isinstance(right, dict) else purse.size(right)) + purse.size(left))
    elif isinstance(left, _ATOMS) or isinstance(right, _ATOMS):
        purse.spend(LOOK)
    else:
        # Values of other lengths differ at once.
        purse.spend(LOOK + min(purse.size(left), purse.size(right)))


def found_by(purse: Meter, sought: Any, items: Iterator[Any]) -> bool:
    """Whether an iterator comes to a value, as the operator `in` asks."""
    for item in items:
        pay_comparison(purse, "eq", sought, item)
        if item is sought or item == sought:
            return True
    return False


# --- filters, with the arguments that they are called with, bound to their names


def _pay_replace(purse: Meter, s: Any, old: Any, new: Any, count: Any = None) -> None:
    text, sought, instead = (purse.text(value) for value in (s, old, new))
    purse.spend(_growth_of_replacing(text, sought, instead))


def _pay_join(purse: Meter, value: Any, d: Any = "", attribute: Any = None) -> None:
    items = [value] if not hasattr(value, "__len__") else value
    if not isinstance(items, str):
        for item in items:
            if not isinstance(item, str):
                purse.show(item)
    purse.spend(4 * len(purse.text(d)) * len(items))


def _pay_sum(purse: Meter, iterable: Any, attribute: Any = None, start: Any = 0) -> None:
    items = iterable if hasattr(iterable, "__iter__") else ()
    lists = [len(item) for item in (start, *items) if isinstance(item, (list, tuple))]
    # Each addition makes a list of all so far.
    purse.spend(8 * len(lists) * sum(lists))


def _pay_format(purse: Meter, value: Any, *args: Any, **kwargs: Any) -> None:
    pay_formatting(purse, purse.text(value), kwargs or args)


def _pay_center(purse: Meter, value: Any, width: Any = 80) -> None:
    purse.spend(4 * _number(width))


def _pay_indent(purse: Meter, s: Any, width: Any = 4, first: bool = False, blank: bool = False) -> None:
    if isinstance(s, str):
        # The ends of lines are those of `str.splitlines`.
        lines = 2 + len(re.findall(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", s))
        purse.spend(4 * lines * (len(width) if isinstance(width, str) else _number(width)))


def _pay_round(purse: Meter, value: Any, precision: Any = 0, method: Any = "common") -> None:
    if isinstance(precision, (int, float)) and abs(precision) > 300:
        raise SecurityError("a number is too large for the filter `round` of the chat template")
    pay_product(purse, value, 10 ** _number(precision))


def _pay_batch(purse: Meter, value: Any, linecount: Any, fill_with: Any = None) -> None:
    if fill_with is not None:
        purse.spend(8 * _number(linecount))


def _pay_wordwrap(
    purse: Meter,
    s: Any,
    width: Any = 79,
    break_long_words: bool = True,
    wrapstring: Any = None,
    break_on_hyphens: bool = True,
) -> None:
    purse.spend(_squares_of_words(s))
    if isinstance(wrapstring, str):
        purse.spend(4 * len(s) * len(wrapstring))


def _pay_urlize(purse: Meter, value: Any, *args: Any, **kwargs: Any) -> None:
    purse.spend(_squares_of_words(value))
    given = sum(len(option) for option in (*args, *kwargs.values()) if isinstance(option, str))
    purse.spend(given * (1 + len(str(value).split())))


def _pay_striptags(purse: Meter, value: Any) -> None:
    # The text is copied for each tag.
    text = purse.text(value)
    purse.spend(text.count("<") * len(text) // 64)


def _pay_urlencode(purse: Meter, value: Any) -> None:
    purse.spend(16 * purse.size(value))


def _pay_tojson(
    purse: Meter,
    value: Any,
    ensure_ascii: Any = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,
) -> None:
    # Escapes take six characters for one. Separators come with each item.
    size = purse.size(value)
    purse.spend(size * (6 + (0 if separators is None else purse.size(separators))))
    if indent is None:
        return
    width = len(indent) if isinstance(indent, str) else _number(indent)
    if width > MAX_INDENT:
        raise SecurityError(f"`tojson` of the chat template indents by more than {MAX_INDENT}")
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, (list, tuple, dict)):
            parts = list(item.values()) if isinstance(item, dict) else item
            purse.spend((len(parts) + 1) * (depth * width + LOOK))
            todo += [(part, depth + 1) for part in parts]


_FILTERS: dict[str, Callable[..., None]] = {
    "replace": _pay_replace,
    "join": _pay_join,
    "sum": _pay_sum,
    "format": _pay_format,
    "center": _pay_center,
    "indent": _pay_indent,
    "round": _pay_round,
    "batch": _pay_batch,
    "wordwrap": _pay_wordwrap,
    "urlize": _pay_urlize,
    "striptags": _pay_striptags,
    "urlencode": _pay_urlencode,
    "tojson": _pay_tojson,
}


def _number(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, (int, float)) else 0


def _squares_of_words(value: Any) -> int:
    """What takes the square of the length of each word, or run of spaces."""
    runs = re.findall(r"\s+|\S+", value) if isinstance(value, str) else []
    return sum(len(run) ** 2 for run in runs) // 64


# --- operators


def pay_sum(purse: Meter, left: Any, right: Any) -> None:
    """Pays for the sum of two lists. What is made of numbers and texts is paid elsewhere."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        purse.spend(len(left) + len(right))


def pay_difference(purse: Meter, left: Any, right: Any) -> Any:
    """Pays for a difference, and gives what is to be taken away: of sets, all is hashed."""
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return right
    taken = list(right) if isinstance(right, Iterator) else right
    for value in (left, taken):
        purse.spend(_PIECE * purse.size(value))
    return taken


def pay_concatenation(purse: Meter, parts: tuple[Any, ...]) -> None:
    """Pays for the text that texts and other values make together."""
    total, wide, escaped = 0, False, False
    for part in parts:
        if isinstance(part, str):
            total += len(part)
            wide = wide or not part.isascii()
            escaped = escaped or isinstance(part, Markup)
        elif isinstance(part, bytes):
            total += len(part)
        else:
            purse.show(part)
    purse.spend(STEP + total * (4 if wide else 1) * (6 if escaped else 1))


def pay_product(purse: Meter, left: Any, right: Any) -> None:
    """Pays for a product, or refuses it."""
    for one, times in ((left, right), (right, left)):
        if isinstance(one, (str, bytes, list, tuple)) and isinstance(times, int):
            width = 4 if isinstance(one, str) else 1 if isinstance(one, bytes) else 8
            purse.spend(len(one) * max(times, 0) * width)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError(f"a number of the chat template may have more than {MAX_BITS} bits")


def check_power(left: Any, right: Any) -> None:
    """Refuses a power that is a number without end."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise SecurityError(f"a number of the chat template may have more than {MAX_BITS} bits")


_FIELD = re.compile(r"[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")


def pay_formatting(purse: Meter, text: str | bytes, given: Any) -> None:
    """Pays for `text % given`, or refuses it."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    values = given if isinstance(given, tuple) else (given,)
    numbers = [abs(value) for value in values if isinstance(value, int)]
    fields, named, at = 0, 0, shown.find("%")
    while at >= 0:
        fields += 1
        at += 1
        if shown.startswith("(", at):
            named += 1
            at = _end_of_key(shown, at)
        field = _FIELD.match(shown, at)
        assert field is not None
        for width in field.groups():
            size = max(numbers, default=0) if width == "*" else int((width or "0")[-9:])
            if size > MAX_WIDTH or len(width or "") > 9:
                raise SecurityError(f"a field of the chat template is wider than {MAX_WIDTH}")
            purse.spend(4 * size)
        at = shown.find("%", field.end() + 1)
    purse.spend(len(shown) + 64 * fields)
    for value in values:
        # By name, one value may be shown by each of the fields.
        purse.spend((4 if isinstance(value, str) else 32) * purse.size(value) * max(named, 1))


def _end_of_key(text: str, at: int) -> int:
    depth = 0
    for bracket in re.compile(r"[()]").finditer(text, at):
        depth += 1 if bracket.group() == "(" else -1
        if not depth:
            return bracket.end()
    return len(text)


# --- methods


def pay_call(purse: Meter, function: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Pays for a call before it is done. Of iterators that are gone through, it puts lists into `args`."""
    purse.spend(STEP + 16 * len(args) + 128 * len(kwargs))
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    if isinstance(owner, (str, bytes)) or owner in (str, bytes, Markup):
        if name == "join":
            _made_lists(args)
        _pay_text_method(purse, owner, name, args, kwargs)
    elif isinstance(owner, _CONTAINERS) or owner in (dict, int, float):
        if name in _GOING_THROUGH:
            _made_lists(args)
        for value in (owner if name in ("index", "count") else None, *args, *kwargs.values()):
            purse.read(value)
        if name == "to_bytes" and args and isinstance(args[0], int) and args[0] > MAX_WIDTH:
            raise SecurityError(f"a number of the chat template is made into more than {MAX_WIDTH} bytes")
    elif name in ("llamatok_dict", "Namespace"):
        _made_lists(args)
        for value in args:
            # The keys of pairs are hashed; those of a dictionary have been.
            purse.spend(_PIECE * len(value) if isinstance(value, dict) else purse.size(value))
    elif name == "changed":
        for value in (*args, *kwargs.values()):
            purse.read(value)


#: Methods of dictionaries, sets and their views that go through an argument.
_GOING_THROUGH = frozenset(
    {"fromkeys", "isdisjoint", "union", "intersection", "difference", "symmetric_difference", "issubset",
     "issuperset"}
)  # fmt: skip
_CONTAINERS: tuple[type, ...] = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    range,
    int,
    float,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


def _made_lists(args: list[Any]) -> None:
    args[:] = [list(value) if isinstance(value, Iterator) else value for value in args]


def _growth_of_replacing(text: Any, old: Any, new: Any) -> int:
    count = text.count(old) if old else len(text) + 1
    return int(4 * count * len(new))


def _names(values: tuple[Any, ...]) -> list[str]:
    return [value.lower() for value in values if isinstance(value, str)]


def _pay_text_method(purse: Meter, owner: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    length = len(owner) if isinstance(owner, (str, bytes)) else 0
    given = (*args, *kwargs.values())
    purse.spend(length + sum(map(purse.size, given)))
    kind = bytes if isinstance(owner, bytes) else str
    texts = [value for value in given if isinstance(value, kind)]
    numbers = [_number(value) for value in given]
    if name in ("center", "ljust", "rjust", "zfill"):
        purse.spend(4 * max(numbers, default=0))
    elif name == "expandtabs" and length:
        tabs = owner.count("\t") if isinstance(owner, str) else owner.count(b"\t")
        purse.spend(4 * tabs * max([*numbers, 8]))
    elif name == "replace" and len(texts) > 1:
        purse.spend(_growth_of_replacing(owner, texts[0], texts[1]))
    elif name == "join" and given and hasattr(given[0], "__len__"):
        purse.spend(4 * len(given[0]) * (length + 1))
    elif name == "split" and texts:
        purse.spend(_PIECE * (owner.count(texts[0]) if texts[0] else 0))
    elif name in ("split", "splitlines"):
        purse.spend(_PIECE * length // 2)
    elif name in ("rfind", "rindex", "rsplit", "rpartition") and texts:
        # These take the product of the lengths at worst.
        purse.spend(length * len(texts[0]) // 16 + (_PIECE * owner.count(texts[0]) if texts[0] else 0))
    elif name == "rsplit":
        purse.spend(_PIECE * length // 2)
    elif name in ("encode", "decode") and any("idna" in text or "punycode" in text for text in _names(given)):
        # These take the square of the length.
        purse.spend(length * length // 4)
    elif name == "striptags" and isinstance(owner, str):
        _pay_striptags(purse, owner)
    elif name == "escape":
        for value in given:
            purse.show(value)
    elif name == "translate" and given:
        table = list(given[0].values()) if isinstance(given[0], dict) else given[0]
        made = table if isinstance(table, (list, tuple)) else ()
        purse.spend(4 * length * max([len(value) for value in made if isinstance(value, str)] + [1]))
