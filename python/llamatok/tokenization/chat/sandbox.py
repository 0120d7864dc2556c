"""The sandbox of chat templates: Jinja's, with a price on all that is done (see `limits`)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from llamatok.tokenization.chat.limits import LOOK, MAX_TEMPLATE, MAX_WIDTH, STEP, meter
from llamatok.tokenization.chat.prices import (
    check_power,
    found_by,
    paid_filter,
    paid_test,
    pay_call,
    pay_comparison,
    pay_concatenation,
    pay_difference,
    pay_formatting,
    pay_product,
    pay_sum,
)


class _Code(CodeGenerator):
    """Calls the functions of the priced tree straight, as the way through the sandbox is slow."""

    def visit_Call(self, node: nodes.Call, frame: Any, forward_caller: bool = False) -> None:
        if not isinstance(node.node, nodes.EnvironmentAttribute):
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        self.visit(node.node, frame)
        self.write("(")
        for argument in node.args:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, metered."""

    code_generator_class = _Code
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, *, filters: dict[str, Callable[..., Any]], **options: Any) -> None:
        # What is constant must not be worked out while the template is compiled, unpaid.
        super().__init__(**options, optimized=False, finalize=_shown)
        self.filters |= filters
        self.filters = {name: paid_filter(name, function) for name, function in self.filters.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: paid_test(name, function) for name, function in tests.items()}
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
        purse = meter()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            pay_concatenation(purse, (left, right))
            return super().call_binop(context, operator, left, right)
        purse.spend(STEP)
        if operator == "+":
            pay_sum(purse, left, right)
        elif operator == "-":
            right = pay_difference(purse, left, right)
        elif operator == "*":
            pay_product(purse, left, right)
        elif operator == "**":
            check_power(left, right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            pay_formatting(purse, left, right)
        return purse.made(super().call_binop(context, operator, left, right))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(argument, (str, int, slice)):
            # It is hashed, and shown where it is not found.
            meter().show(argument)
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        purse = meter()
        given = list(args)
        pay_call(purse, __obj, given, kwargs)
        return purse.made(super().call(__context, __obj, *given, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__
        by_map = value.__name__ == "format_map"

        def format(*args: Any, **kwargs: Any) -> str:
            purse = meter()
            purse.spend(STEP + 64 * len(text))
            for given in (*args, *kwargs.values()):
                purse.read(given)
            if by_map and (kwargs or len(args) != 1):
                raise TypeError("format_map() takes exactly one argument and no keywords")
            formatter = (
                _EscapeFormatter(self, escape=text.escape) if isinstance(text, Markup) else _Formatter(self)
            )
            made: str = type(text)(
                formatter.vformat(text, () if by_map else args, args[0] if by_map else kwargs)
            )
            purse.made(made)
            return made

        return format


class _Formatter(SandboxedFormatter):
    """`str.format` with fields of limited width, each paid for."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion in ("r", "s", "a"):
            meter().show(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if any(len(number) > 9 or int(number) > MAX_WIDTH for number in re.findall(r"[0-9]+", format_spec)):
            raise SecurityError(f"a field of the chat template is wider than {MAX_WIDTH}")
        meter().show(value)
        return str(meter().made(super().format_field(value, format_spec)))


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """That of `Markup`, which escapes what goes into it."""


@pass_context
def _shown(context: Context, value: Any) -> Any:
    """Pays for a value's text before it is made."""
    meter().show(value)
    return value


def _compared(name: str, left: Any, right: Any) -> Any:
    purse = meter()
    if isinstance(left, str) and isinstance(right, str):
        purse.spend(LOOK + len(left) + len(right))
        return _COMPARISONS[name](left, right)
    if name in ("in", "notin") and isinstance(right, Iterator):
        return found_by(purse, left, right) == (name == "in")
    pay_comparison(purse, name, left, right)
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
    meter().spend(amount)
    return True


def _read(value: Any) -> Any:
    meter().show(value)
    return value


def _made(value: Any) -> Any:
    return meter().made(value)


def _joined(context: Context, *parts: Any) -> str:
    pay_concatenation(meter(), parts)
    return (markup_join if context.eval_ctx.autoescape else str_join)(parts)


#: What the priced tree calls, by the names of functions; they are attributes of the environment.
_OWN: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (_compared, _spent, _read, _made, _joined)
}


def _call(function: Callable[..., Any], *args: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(function.__name__), list(args), [], None, None)


#: What nodes make each time, in bytes: containers, bound methods and undefined values, the frame of a round.
_PRICES: dict[type[nodes.Node], int] = {
    nodes.List: 64,
    nodes.Tuple: 64,
    nodes.Dict: 256,
    nodes.Pair: 96,
    nodes.Getattr: 64,
    nodes.Getitem: 64,
    nodes.Slice: 64,
    nodes.For: 1024,
    nodes.Macro: 512,
    nodes.CallBlock: 1024,
}
_NODE = 16


def _price(body: list[nodes.Node]) -> int:
    price = LOOK
    todo = list(body)
    while todo:
        node = todo.pop()
        price += _PRICES.get(type(node), _NODE)
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
        return _call(_joined, nodes.ContextReference(), *node.nodes).set_lineno(node.lineno)

    def visit_Getitem(self, node: Any) -> Any:
        node = self.generic_visit(node)
        return _call(_made, node).set_lineno(node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: Any) -> Any:
        node = self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _call(_read, node.key).set_lineno(node.lineno)
        return node
