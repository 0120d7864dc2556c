"""A chat template of a stranger ends in one clear error, whatever it asks for: no endless loop, no memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest

jinja2 = pytest.importorskip("jinja2")
sandbox = pytest.importorskip("jinja2.sandbox")

from llamatok.tokenization.chat import limits  # noqa: E402
from llamatok.tokenization.chat.template import render  # noqa: E402

MESSAGES = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}]

_LOOP = "{% set n = namespace(i=3, s='xy') %}{% for i in range(9000) %}"
_IN_LOOPS = "{% for a in range(99999) %}{% for b in range(99999)"
#: A list that holds itself twice over, 2^60 times in all.
_DAG = "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 60
_BIG = "{% set b = 'x' * 3000000 %}"

BOMBS = {
    "product": "{{ 'x' * 10**9 }}",
    "product the other way": "{{ 10**9 * 'x' }}",
    "list": "{% set a = [0] * 10**9 %}",
    "power": "{{ 10 ** 1000000000 }}",
    "power by itself": _LOOP + "{% set n.i = n.i * n.i %}{% endfor %}",
    "sums of numbers": _LOOP + "{% set n.i = n.i + n.i %}{% endfor %}",
    "loops in loops": _IN_LOOPS + " %}{% endfor %}{% endfor %}",
    "loops that filter": _IN_LOOPS + " if b < 0 %}{% endfor %}{% endfor %}",
    "doubling": _LOOP + "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "adding": _LOOP + "{% set n.s = n.s + n.s %}{% endfor %}",
    "joining": _LOOP + "{% set n.s = [n.s, n.s]|join %}{% endfor %}",
    "joining by much": _BIG + "{{ range(99999)|join(b) }}",
    "joining by a method": _BIG + "{{ b.join(range(99999)|map('string')|list) }}",
    "blocks of text": "{% set a %}xxxxxxxxxx{% endset %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60,
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "macros without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "blocks within themselves": "{% block a %}{{ self.a() }}{% endblock %}",
    "shown": _DAG + "{{ a }}",
    "shown as JSON": _DAG + "{{ a|tojson }}",
    "shown as views": _DAG + "{{ {'a': a}.items() }}",
    "shown in a namespace": _DAG + "{{ namespace(a=a) }}",
    "shown by a format": _DAG + "{{ '%s' % [a] }}",
    "shown by another format": _DAG + "{{ '{}'.format(a) }}",
    "shown by string": _DAG + "{% set s = a|string %}",
    "compared": _DAG + _DAG.replace("set a", "set b").replace("[a, a]", "[b, b]") + "{{ a == b }}",
    "compared in turn": _DAG
    + _DAG.replace("set a", "set b").replace("[a, a]", "[b, b]")
    + "{{ a == b == b }}",
    "sought": _DAG + _DAG.replace("set a", "set b").replace("[a, a]", "[b, b]") + "{{ a in [b] }}",
    "tested": _DAG + _DAG.replace("set a", "set b").replace("[a, a]", "[b, b]") + "{{ a is eq(b) }}",
    "hashed": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)") + "{% set d = {a: 1} %}",
    "hashed by look-up": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)") + "{{ {}[a] }}",
    "within itself": "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
    "JSON with indent": "{{ messages|tojson(indent=10**9) }}",
    "JSON with separators": _BIG + "{{ (range(99999)|list)|tojson(separators=(b, b)) }}",
    "center": "{{ 'x'|center(10**9) }}",
    "center by a method": "{{ 'x'.center(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "tabs": "{{ ('\t' * 1000000).expandtabs(4096) }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "format with a star": "{{ '%*d' % (1000000000, 1) }}",
    "format filter": "{{ '%1000000000d'|format(1) }}",
    "format method": "{{ '{:1000000000}'.format(1) }}",
    "format of a format": "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "format by name": _BIG + "{{ ('%(b)s' * 100000) % {'b': b} }}",
    "format method by name": _BIG + "{{ ('{0}' * 100000).format(b) }}",
    "replace": _BIG + "{{ b.replace('x', b) }}",
    "replace with nothing sought": _BIG + "{{ b|replace('', b) }}",
    "translate": _BIG + "{{ b.translate({120: b}) }}",
    "indent": _BIG + "{{ ('\n' * 1000000)|indent(b) }}",
    "indent by much": "{{ ('\n' * 1000000)|indent(10**9) }}",
    "wordwrap": _BIG + "{{ b|wordwrap(1, wrapstring=b) }}",
    "round": "{{ 1.5|round(10**9, 'floor') }}",
    "batch": "{{ [1]|batch(10**9, 0)|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "sum of lists": "{{ ([range(99999)|list] * 10000)|sum(start=[])|length }}",
    "rfind": "{{ ('a' * 5000000).rfind('b' ~ 'a' * 2000000) }}",
    "slices": "{% set n = namespace(a=[]) %}{% set l = range(99999)|list %}"
    "{% for i in range(99999) %}{% set n.a = [n.a, l[1:]] %}{% endfor %}",
    "lists": "{% set n = namespace(a=[]) %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% set n.a = [n.a, 1, 2, 3] %}{% endfor %}{% endfor %}",
    "cycles of calls": "{% macro f(g) %}{{ g(g) }}{{ g(g) }}{% endmacro %}{{ f(f) }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "joining an iterator": "{{ range(99999)|map('string')|join('x' * 100000) }}",
    "joining an iterator by a method": "{{ ('x' * 100000).join(range(99999)|map('string')) }}",
    "joining by a list": "{{ range(99999)|join(['x' * 100000]) }}",
    "joining by name": "{{ range(99999)|join(d='x' * 100000, attribute='real') }}",
    "joining the default of a map": "{{ range(99999)|map(attribute='a', default='x' * 100000)|join }}",
    "joining what a loop shows": _DAG
    + "{% for x in [a, 0] %}{{ [loop]|join(attribute='previtem') if loop.last }}{% endfor %}",
    "sum of an iterator": "{% set l = range(99999)|list %}"
    "{{ range(99999)|map(attribute='a', default=l)|sum(start=[])|length }}",
    "sorting an iterator": "{{ range(99999)|map(attribute='a', default='x' * 100000)|sort|length }}",
    "unique of an iterator": "{{ range(99999)|map(attribute='a', default='X' * 99999)|unique|list|length }}",
    "replace by name": "{{ ('x' * 100000)|replace(new='y' * 100000, old='x') }}",
    "replace a number": "{{ ('1' * 100000)|replace(1, 'y' * 100000) }}",
    "replace in safe text": "{{ (('x' * 100000)|safe).replace('x', 'y' * 100000) }}",
    "rfind in safe text": "{{ (('a' * 2000000)|safe).rfind('b' ~ 'a' * 1000000) }}",
    "format of a list": "{{ ['%(a)s' * 100000]|format(a='x' * 100000) }}",
    "format with a key of signs": "{{ '%(%)99999999d' % {'%': 1} }}",
    "format by a test": "{{ '%1000000000d' is even }}",
    "translate by a list": "{{ ('\x00' * 100000).translate(['x' * 100000]) }}",
    "namespaces": "{% set d = dict(range(99998)|batch(2)) %}{% set n = namespace(l=[]) %}"
    "{% for i in range(5000) %}{% set n.l = [n.l, namespace(d)] %}{% endfor %}",
    "cyclers": "{% set l = range(99999)|list %}{% set n = namespace(l=[]) %}"
    "{% for i in range(5000) %}{% set n.l = [n.l, cycler(*l)] %}{% endfor %}",
    "arguments": "{% macro f() %}{% set n.l = [n.l, varargs] %}{% endmacro %}{% set l = range(99999)|list %}"
    "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{{ f(*l) }}{% endfor %}",
    "lists of one": "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set n.l = [n.l, range(90000)|batch(1)|list] %}{% endfor %}",
    "lists of characters": "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set n.l = [n.l, ('\u4e00' * 10000)|list] %}{% endfor %}",
    "shown by a loop": _DAG + "{% for x in [a, 0] %}{{ '{0.previtem!r}'.format(loop) }}{% endfor %}",
    "shown by an error": _DAG + "{{ {}[a].b }}",
    "shown by an exception": _DAG + "{{ raise_exception(a) }}",
    "shown by a test": _DAG + "{{ a is upper }}",
    "hashed by a test": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)") + "{{ a is filter }}",
    "hashed by an iterator": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)")
    + "{{ dict([[a, 1]]|reverse) }}",
    "dates": "{{ strftime_now('%1000d' * 1000000)|length }}",
    "words": "{{ ('x' * 3000000)|wordwrap(1) }}",
    "links": "{{ (')' * 1000000 ~ 'x)')|urlize }}",
    "tags": "{{ ('<b>' * 300000)|striptags }}",
    "long numbers": "{% set l = [2 ** 2000] * 90000 %}"
    "{% for i in range(100) %}{% set x = l|string %}{% endfor %}",
    "differences of sets": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)")
    + "{{ {}.keys() - [a] }}",
    "differences by an iterator": _DAG.replace("['x']", "('x',)").replace("[a, a]", "(a, a)")
    + "{{ {'b': 1}.keys() - ([a]|reverse) }}",
    "groups": "{{ range(99999)|groupby('a', default='X' * 100000)|length }}",
    "escapes": _DAG + "{{ ('a'|safe).escape(a) }}",
    "tags by a method": "{{ (('<b>' * 300000)|safe).striptags() }}",
    "punycode": "{{ (('\u4e00a\u4e01' * 300000)).encode('punycode')|length }}",
    "round of a text": "{{ 'x'|round(9, 'floor') }}",
}
#: Those that may end by Python's own limit on depth.
DEEP = {
    "macros without end",
    "blocks within themselves",
    "within itself",
    "cycles of calls",
    "recursive loop",
}


_SCRIPT = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import jinja2
from llamatok.tokenization.chat import limits
from llamatok.tokenization.chat.template import render
limits.ALLOWANCE /= 32  # to be sooner done
bombs, messages = json.load(sys.stdin)
for name, template in bombs.items():
    try:
        result = "rendered", len(render(template, {"messages": messages})[0])
    except Exception as error:
        result = type(error).__name__, str(error)[:300]
    print(json.dumps([name, *result]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[Any]]:
    """What became of each template, in a process with limited memory."""
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps([BOMBS, MESSAGES]),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return {name: result for name, *result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_are_refused(name: str, outcomes: dict[str, list[Any]]) -> None:
    """One error of Jinja's, which names the template, with memory bounded by the operating system."""
    kind, message = outcomes[name]
    assert kind == "SecurityError", message
    assert "chat template" in message
    # The limit of the process is no limit of ours.
    assert name in DEEP or "asks for too much" not in message


def test_formats_are_searched_in_proportion() -> None:
    """A text full of what looks like the beginning of a field."""
    for text in ("'{' ~ ':' * 3000000", "'%(' * 1000000", "'%(' ~ '(' * 3000000", "'%' ~ '-' * 3000000"):
        with pytest.raises((TypeError, ValueError)):
            render("{% set a = " + text + " %}{{ a % 1 }}", {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "not " * 5000 + "1 }}",
        "{{ 1" + " + 1" * 5000 + " }}",
        "{% for a in b %}" * 30 + "{% endfor %}" * 30,
        "{% if a %}" * 500 + "{% endif %}" * 500,
        "x" * (limits.MAX_TEMPLATE + 1),
    ],
)
def test_templates_that_do_not_compile(template: str) -> None:
    """Depth and length are refused as faults of the template."""
    with pytest.raises(jinja2.TemplateSyntaxError, match="chat template"):
        render(template, {"messages": MESSAGES})


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that has time left neither for a round of a loop nor for an operator."""
    monkeypatch.setattr(limits, "MAX_SECONDS", -1.0)
    with pytest.raises(jinja2.exceptions.SecurityError, match="seconds"):
        render("{% for a in range(9) %}{% endfor %}", {})


def test_what_is_paid_for_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least allowance with which a template passes is one number."""
    template = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content|trim|tojson }}{% endfor %}"

    def passes(allowance: int) -> bool:
        monkeypatch.setattr(limits, "ALLOWANCE", allowance)
        monkeypatch.setattr(limits, "PER_GIVEN", 0)
        try:
            render(template, {"messages": MESSAGES})
        except jinja2.exceptions.SecurityError:
            return False
        return True

    least = next(amount for amount in range(0, 1 << 16, 64) if passes(amount))
    assert 0 < least < 1 << 14
    assert not passes(least - 64)
    assert all(passes(least) for _ in range(3))


def test_long_chats_pass() -> None:
    """What people send is far from the limits: ten thousand messages, and a message of 20 MB."""
    template = (
        "{% set ns = namespace(system='') %}{% if messages[0].role == 'system' %}"
        "{% set ns.system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{% if loop.index0 == 0 and messages|length > 1 %}{{ ns.system }}{% endif %}"
        "{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].strip() }}{% endif %}"
        "<|{{ m['role'] }}|>{{ m.content|trim + '\n' }}{% endfor %}"
    )
    many: list[dict[str, Any]] = [{"role": "user", "content": "x" * 500}] * 10_000
    text, _ = render(template, {"messages": [dict(message) for message in many]})
    assert text == ("<|user|>" + "x" * 500 + "\n") * 10_000
    text, _ = render(template, {"messages": [{"role": "user", "content": "x " * 10_000_000}]})
    assert len(text) == len("<|user|>\n") + 20_000_000 - 1


TOOL_CHAT = """
{%- for m in messages %}
    {%- if m.role == 'assistant' and 'tool_calls' in m %}
        {%- set ahead = namespace(final=false) %}
        {%- for later in messages[loop.index:] %}
            {%- if later.role == 'assistant' and 'tool_calls' not in later %}
                {%- set ahead.final = true %}
            {%- endif %}
        {%- endfor %}
        {{- '<call>' ~ m.tool_calls[0].function|tojson ~ ahead.final }}
    {%- elif m.role == 'tool' %}
        {{- '<result>' ~ m.content }}
    {%- endif %}
{%- endfor %}"""


def test_long_tool_chats_pass() -> None:
    """Each call looks at all later messages: 1,500 of them are half a million rounds."""
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": "y" * 250}}}]}
    messages = [call, {"role": "tool", "content": "z" * 300}] * 750
    text, _ = render(TOOL_CHAT, {"messages": messages})
    function = json.dumps({"name": "f", "arguments": {"x": "y" * 250}})
    assert text == f"<call>{function}False<result>{'z' * 300}" * 750


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}"
            "{% if m == (messages|last) %}{{ loop.index }}{% endif %}{% endfor %}", "400"),
        (
            "{% for m in messages %}"
            "{{ (messages|selectattr('role', 'equalto', 'user')|list)|length }}{% endfor %}",
            "200" * 400,
        ),
        ("{% for m in messages %}"
            "{{ (messages|map(attribute='role')|list|reverse|first)[0] }}{% endfor %}", "a" * 400),
        (
            "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = n.t ~ m.content %}{% endfor %}"
            "{{ n.t|length }}",
            "4001490",
        ),
        (
            "{% set n = namespace(l=[]) %}{% for m in messages %}{% set n.l = n.l + [m] %}{% endfor %}"
            "{{ n.l|length }}",
            "400",
        ),
    ],
)  # fmt: skip
def test_chats_looked_at_in_each_round_pass(template: str, expected: str) -> None:
    """Messages of ten thousand letters, of which a round looks at all, but not at their texts."""
    roles = ["user", "assistant"]
    messages = [{"role": roles[i % 2], "content": f"{i} " + "x" * 10_000} for i in range(400)]
    assert render(template, {"messages": messages})[0] == expected


def test_who_trusts_a_template_raises_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was allowed, and the setting that allows more."""
    template = "{% for a in range(999) %}{% for b in range(99) %}{% endfor %}{% endfor %}done"
    monkeypatch.setattr(limits, "ALLOWANCE", 1 << 20)
    with pytest.raises(jinja2.exceptions.SecurityError, match=r"of 1 MiB .*limits\.ALLOWANCE"):
        render(template, {})
    monkeypatch.setattr(limits, "ALLOWANCE", math.inf)
    assert render(template, {})[0] == "done"


def test_time_is_that_of_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting counts for nothing: other threads may have the processor."""
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(limits.time, "monotonic", lambda: float("inf"))
    assert render("{% for a in range(999) %}{% endfor %}done", {})[0] == "done"


AS_IN_JINJA = [
    "{{ messages[0].content|truncate(8000) }}{{ 'a b c d e f'|truncate(6, true, '') }}",
    "{{ 123456|center(10) }}|{{ 'x'|center(5000)|length }}|{{ 'x'.rjust(5000)|length }}",
    "{{ range(12000)|batch(10000)|list|length }}",
    "{{ range(7)|batch(3, 'x')|list }}{{ range(7)|slice(3)|list }}",
    "{{ [[1], [2]]|sum(start=[]) }}{{ [namespace(x=1), namespace(x=2)]|sum(attribute='x') }}",
    "{{ ('<b>{}{a}'|safe).format('<', a='>') }}{{ ('{a}'|safe).format_map({'a': '&'}) }}",
    "{{ ('<b>{}'|safe).format('<')|forceescape }}{{ ('<i>'|safe) ~ '<' }}{{ ('<i>'|safe) + '<' }}",
    "{% autoescape true %}{{ 'a<' ~ ('<b>'|safe) ~ messages[0].content }}{{ '<' }}{% endautoescape %}",
    "{{ '{\"id\": 123456, \"name\": \"%s\", \"at\": %5.2f}' % ('x', 2) }}",
    "{{ '%*d|%-*s|%%|%(123456)s' % (5, 3, 4, 'x') if false else '%*d|%-*s|%%' % (5, 3, 4, 'x') }}",
    "{{ '%(123456)s %(a(b))s' % {'123456': 'x', 'a(b)': 'y'} }}{{ '%s-%s'|format('a', 1) }}",
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|join('/', attribute='role') }}",
    "{{ messages|map('length')|sum }}{{ ['b', 'A']|sort }}{{ ['b', 'A', 'a']|unique|list }}",
    "{{ messages|sort(attribute='content,role')|map(attribute='content')|list }}{{ [3, 1]|min }}",
    "{% for k, items in messages|groupby('role') %}{{ k }}{{ items|length }}{% endfor %}",
    "{{ 'user' in messages|map(attribute='role') }}{{ 'x' not in messages|map(attribute='role') }}",
    "{% set i = [1, 2, 3, 4]|select %}{{ 2 in i }}{{ i|list }}{{ i|list }}",
    "{{ {'a': 1, 'b': 2}.keys() - ['a'] }}{{ 3 - 1.5 }}{{ ('a'|safe).escape('<') }}{{ 'ä'.encode('idna') }}",
    "{% set i = [1]|map('string') %}{{ {}.get(i) }}{{ [i].index(i) }}",
    "{{ {'a': 1}.keys().isdisjoint('b'|list|reverse) }}",
    "{{ 'b' is in(['a', 'b']|map('lower')) }}{{ [1, 2, 3]|select('odd')|list }}{{ 4 is divisibleby 2 }}",
    "{{ dict([['a', 1]]|reverse) }}{{ dict({'a': 1}, b=2) }}{{ namespace([('a', 1)]|list).a }}",
    "{{ {'a': 1}|items|list }}{{ {'b': 1, 'a': 2}|dictsort }}{{ {'b': 1}|xmlattr }}",
    "{{ 'abc'|reverse }}{{ 'abc'|list }}{{ [1, 2]|reverse|list }}{{ 'abc'|last }}{{ 'abc'|first }}",
    "{{ 'a,b'.split(',') }}{{ ', '.join(['a', 'b']|map('upper')) }}{{ 'abc'.translate({97: 'x'}) }}",
    "{{ messages|first|attr('role') }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }}",
    "{{ 'a b c'|wordwrap(1) }}{{ 'see http://a.b/c'|urlize }}{{ '<p>a</p>'|striptags }}{{ 'a b'|urlencode }}",
    "{{ 'x\ny\n'|indent(4, true) }}{{ 'x\ny'|indent('> ') }}",
    "{{ 'a1'|replace(1, 2) }}{{ 'aaa'|replace('a', 'b', 2) }}",
    "{{ [1, 2]|join(3) }}{{ 12.5|round }}{{ 1250|round(-2) }}{{ '7'|int + '2.5'|float }}{{ -3|abs }}",
    "{{ 2 ** 100 }}{{ [1] * 3 }}{{ (1, 2) + (3,) }}{{ 'a' + 'b' }}{{ 7 % 4 }}{{ missing ~ 'x' }}",
    "{% for m in messages %}{{ '{0.index}{0.previtem!r}'.format(loop) }}{{ loop.cycle(1, 2) }}{% endfor %}",
    "{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, b=3) }}{{ f(*[1, 2, 3]) }}",
    "{% set l = messages|default([])|length %}{{ l }}{{ none|default('x', true) }}{{ {(1, 2): 3}[(1, 2)] }}",
]  # fmt: skip


@pytest.mark.parametrize("template", AS_IN_JINJA)
def test_templates_render_as_in_jinja(template: str) -> None:
    """The text is that of Jinja's own sandbox."""
    plain = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    expected = plain.from_string(template).render(messages=MESSAGES)
    assert render(template, {"messages": MESSAGES})[0] == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ 5|join }}", "{{ 5|sum }}", "{{ 5|sort }}", "{{ 5|map('upper')|list }}", "{{ 'a'|replace('b') }}",
        "{{ 'a'|nothing }}", "{{ [1, 'a']|sort }}", "{{ ['a', 'b']|sum }}", "{{ '%d' % 'x' }}",
        "{{ '%(a' % 1 }}",
        "{{ '{}'.format() }}", "{{ '{a}'.format_map() }}", "{{ none + 'x' }}", "{{ missing.a.b }}",
        "{{ 'a'.join([1]) }}", "{{ messages|map(attribute='role')|length }}",
        "{{ 'x'|truncate(1, end='abc') }}",
    ],
)  # fmt: skip
def test_errors_are_those_of_jinja(template: str) -> None:
    """Of the same type."""
    plain = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        plain.from_string(template).render(messages=MESSAGES)
    with pytest.raises(expected.type):
        render(template, {"messages": MESSAGES})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 'a' < 'b' < 'c' }}", "True"),
        ("{{ missing == none }},{{ missing is defined }}", "False,False"),
        ("{{ 'x' in messages[0] }},{{ 'role' in messages[0] }},{{ 'q' not in 'abc' }}", "False,True,True"),
        ("{{ '%s-%05.1f' % ('a', 2.5) }}", "a-002.5"),
        ("{{ '{0:>5}|{a!r}'.format('x', a='y') }}", "    x|'y'"),
        ("{{ '{a}'.format_map({'a': 3}) }}", "3"),
        ("{{ 'a' ~ 1 ~ none ~ [1] }}", "a1None[1]"),
        ("{{ messages[1:][0].content[::-1] }}", "ih"),
        ("{{ [3, 1, 2]|sort|join(',') }},{{ [1, 2]|sum }},{{ [{'a': 2}]|sum(attribute='a') }}", "1,2,3,3,2"),
        ("{{ dict(a=1, **{'b': 2})|tojson(indent=2) }}", '{\n  "a": 1,\n  "b": 2\n}'),
        ("{% for a in [1, 2, 3] if a != 2 %}{{ a }}{{ loop.last }}{% endfor %}", "1False3True"),
        ("{{ 'a b'.split() }}{{ 'a,b'.rsplit(',', 1) }}", "['a', 'b']['a', 'b']"),
        ("{{ 'ab'|upper|replace('A', 'x')|indent(2, true) }}", "  xB"),
        ("{{ (7 // 2) ** 2 + 5 % 3 - 1.5 }}", "9.5"),
        ("{% macro f(x) %}<{{ x }}>{{ caller() }}{% endmacro %}{% call f(1) %}in{% endcall %}", "<1>in"),
        ("{% for x in [[1, [2]]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}", "12"),
        ("{{ 1234.567|round(1) }},{{ 123456789.5|round }}", "1234.6,123456790.0"),
    ],
)
def test_what_templates_do_is_done(template: str, expected: str) -> None:
    """Prices change nothing of the result."""
    assert render(template, {"messages": MESSAGES})[0] == expected
