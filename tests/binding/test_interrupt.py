"""Ctrl-C within a long call, and the end of the interpreter while one is under way."""

import signal

import pytest

from support.processes import run, start

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")

#: A timer's signal, handled as Python handles Ctrl-C.
INTERRUPTED = """
import os, signal, sys, time
signal.signal(signal.SIGALRM, signal.default_int_handler)

def interrupted(call, delay=0.1):
    signal.setitimer(signal.ITIMER_REAL, delay)
    try:
        call()
    except KeyboardInterrupt:
        return True
    signal.setitimer(signal.ITIMER_REAL, 0)
    return False

from llamatok import LlamaTokenizer, Tokenizer, demo_checkpoint
tokenizer = Tokenizer.default()
drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint(), model_max_length=10**12)
line = "The old king said to the naïve 你好 word of 1984: "
expected = tokenizer.encode(line)
whole = line * 20_000
"""


def test_calls_without_end():
    """Hundreds of gigabytes to count: were that not interrupted, the test would not end."""
    out = run(
        INTERRUPTED
        + """
lines = [line] * 1_000_000
for threads in (1, 3):
    assert interrupted(lambda: tokenizer.count([whole] * 300_000, num_threads=threads))
    assert interrupted(lambda: tokenizer.encode_batch([whole] * 1000, num_threads=threads))
assert interrupted(lambda: drop_in([whole] * 1000))
assert interrupted(lambda: [tokenizer.encode_batch(lines) for _ in range(10_000)])
assert interrupted(lambda: [tokenizer.encode(line) for _ in range(10**12)])
assert tokenizer.encode(line) == expected
assert tokenizer.encode_batch([line] * 5, num_threads=2).to_lists() == [expected] * 5
assert drop_in(line)["input_ids"] == [1, *expected]
print("done")
"""
    )
    assert out == "done\n"


@pytest.mark.parametrize("engine", ["fast", "general"])
def test_calls_of_some_time(engine, monkeypatch):
    """Each call is interrupted early, and then ends before the time that it takes whole."""
    if engine == "general":
        monkeypatch.setenv("LLAMATOK_ENGINE", "general")
    out = run(
        INTERRUPTED
        + """
fast = tokenizer.settings["engine"] == "fast"
text = whole * (25 if fast else 5)
batch = tokenizer.encode_batch([whole[:50_000]] * (500 if fast else 50))
ids = batch.ids.tolist()
calls = {
    "encode": lambda: tokenizer.encode(text),
    "encode_batch": lambda: tokenizer.encode_batch([text]),
    "count": lambda: tokenizer.count(text),
    "decode": lambda: tokenizer.decode(ids),
    "decode_bytes": lambda: tokenizer.decode_bytes(ids),
    "decode_batch": lambda: [tokenizer.decode_batch(batch) for _ in range(3)],
    "to_padded": lambda: [batch.to_padded(pad_id=0) for _ in range(5)],
    "to_lists": lambda: [batch.to_lists() for _ in range(5)],
    "drop_in": lambda: drop_in(text),
    "drop_in decode": lambda: drop_in.decode(ids),
    "offsets": lambda: drop_in([line * 20] * 2000, return_offsets_mapping=True),
}
for name, call in calls.items():
    started = time.monotonic()
    call()
    seconds = time.monotonic() - started
    if seconds < 0.3:
        continue
    started = time.monotonic()
    assert interrupted(call, 0.05), name
    assert time.monotonic() - started < 0.8 * seconds + 0.2, name
    assert tokenizer.encode(line) == expected, name
assert tokenizer.decode(tokenizer.encode(text)) == text
print("done")
"""
    )
    assert out == "done\n"


def test_a_handler_may_raise_anything_and_use_the_tokenizer():
    out = run(
        INTERRUPTED
        + """
class Late(Exception):
    pass

found = []
def handle(*_):
    found.append(tokenizer.encode_batch([line] * 1000, num_threads=2)[999].tolist())
    if len(found) == 3:
        raise Late
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
try:
    tokenizer.count([whole] * 300_000)
except Late:
    print("late")
signal.setitimer(signal.ITIMER_REAL, 0)
assert found == [expected] * 3
"""
    )
    assert out == "late\n"


def test_a_signal_that_raises_nothing_changes_nothing():
    out = run(
        INTERRUPTED
        + """
signal.signal(signal.SIGALRM, lambda *_: None)
text = whole * 20
ids = tokenizer.encode(text)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
for threads in (1, 2, 3):
    batch = tokenizer.encode_batch([text, line, text], num_threads=threads)
    assert batch.to_lists() == [ids, expected, ids]
    assert tokenizer.decode_batch(batch) == [text, line, text]
assert tokenizer.encode(text) == ids
assert tokenizer.decode(ids) == text
assert drop_in(text)["input_ids"] == [1, *ids]
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""
    )
    assert out == "done\n"


def test_other_threads_go_on():
    """Signals are the main thread's affair: a call of another one is not interrupted."""
    out = run(
        INTERRUPTED
        + """
import threading
text = whole * 20
results = []
ended = threading.Event()
def work():
    results.append(tokenizer.count([text] * 2))
    ended.set()
threading.Thread(target=work).start()
interrupted(ended.wait)
ended.wait()
assert results[0].tolist() == [tokenizer.count(text)] * 2
print("done")
"""
    )
    assert out == "done\n"


def test_sigint_ends_a_program():
    """By the signal itself, as shells want to see it."""
    result = start(
        """
        import os, signal, threading
        from llamatok import Tokenizer
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tokenizer = Tokenizer.default()
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        tokenizer.count(["some words " * 100_000] * 300_000)
        """
    )
    assert result.returncode == -signal.SIGINT
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")


#: A batch without end in a thread that the interpreter does not wait for.
IN_BACKGROUND = """
import os, sys, threading, time
from llamatok import LlamaTokenizer, Tokenizer, demo_checkpoint
tokenizer = Tokenizer.default()
drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint(), model_max_length=10**12)
texts = [f"some words and the number {i} " * 50 for i in range(1000)]
def work(call):
    while True:
        call()
calls = [
    lambda: tokenizer.encode_batch(texts, num_threads=2),
    lambda: tokenizer.encode("some words " * 10_000),
    lambda: tokenizer.decode_batch(tokenizer.encode_batch(texts)),
    lambda: drop_in(texts),
    lambda: tokenizer.encode_batch(texts).to_lists(),
    lambda: tokenizer.count(texts * 100),
]
for call in calls:
    threading.Thread(target=work, args=(call,), daemon=True).start()
time.sleep(0.3)
"""


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("os._exit(4)", 4, ""),
        ("raise RuntimeError('enough')", 1, "RuntimeError: enough"),
        ("import signal; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM, ""),
    ],
)
def test_the_interpreter_ends_while_batches_run(end, code, message):
    for _ in range(2):
        result = start(IN_BACKGROUND + end)
        assert result.returncode == code
        assert result.stderr.rstrip().endswith(message)
        assert message or not result.stderr
