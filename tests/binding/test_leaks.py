"""Calls without number: neither references nor memory grow."""

import pytest

from support.processes import run

#: Each round makes one call of each kind. Release builds of Python do not count all references; objects that
#: outlive a call show as a higher count of what was given, as objects of the collector, as blocks of Python's
#: allocator (numbers and strings, of which the collector does not know), or as memory.
CALLS = """
import copy, gc, os, pickle, sys
from llamatok import LlamaTokenizer, Tokenizer, TokenizerError, demo_checkpoint

tokenizer = Tokenizer.default()
drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint(), pad_token="<unk>")
core = drop_in._pipeline
text, data = "Hello naïve 你好 world, " + "long " * 3, "bytes \\xff".encode("latin-1")
texts = [text, data, "", "x" * 50]
strings = [text, "", "x" * 50]
ids = tokenizer.encode(text)
rows = [ids, [], ids[:3]]
large = 10**6
# What is long takes ways of its own.
long_text, long_line = "naïve 你好 " * 100, "word " * 1500
wide = tokenizer.encode_batch([long_line] + [""] * 199)
added = ["<added>"]

def raises(error, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except error:
        return
    raise AssertionError(error)

calls = [
    lambda: tokenizer.encode(text, add_bos=True, parse_special=True),
    lambda: tokenizer.encode(data),
    lambda: tokenizer.encode_batch(texts, num_threads=1),
    lambda: tokenizer.encode_batch(texts).to_lists(),
    lambda: list(tokenizer.encode_batch(texts)),
    lambda: tokenizer.encode_batch(texts)[1:].to_padded(pad_id=0),
    lambda: tokenizer.encode_batch(texts)[::-2],
    lambda: tokenizer.encode_batch(texts)[-1].tolist(),
    lambda: tokenizer.encode(long_text),
    lambda: tokenizer.encode_batch([long_text, long_line]).to_lists(),
    lambda: wide.to_padded(pad_id=0),
    lambda: tokenizer.count(texts, num_threads=1),
    lambda: tokenizer.decode(ids),
    lambda: tokenizer.decode_bytes(ids),
    lambda: tokenizer.decode_batch(rows, num_threads=1),
    lambda: list(tokenizer.decode_text_batch(rows, num_threads=1)),
    lambda: [stream.push(id) for stream in [tokenizer.stream_decoder()] for id in ids],
    lambda: (tokenizer.id_to_piece(5), tokenizer.piece_to_id("x"), tokenizer.settings),
    lambda: drop_in(text),
    lambda: drop_in(strings, padding=True, return_tensors="np"),
    lambda: drop_in(text, return_offsets_mapping=True),
    lambda: drop_in(strings, truncation=True, max_length=4, return_overflowing_tokens=True),
    lambda: drop_in.decode(ids),
    lambda: drop_in.batch_decode(rows),
    lambda: drop_in.convert_ids_to_tokens(ids),
    lambda: raises(TypeError, tokenizer.encode, large),
    lambda: raises(UnicodeEncodeError, tokenizer.encode, "a\\ud800"),
    lambda: raises(UnicodeEncodeError, tokenizer.encode_batch, [text, "a\\ud800"]),
    lambda: raises(IndexError, tokenizer.decode, [5, large]),
    lambda: raises(IndexError, tokenizer.decode_batch, [ids, [large]]),
    lambda: raises(ValueError, tokenizer.encode_batch, texts, num_threads=0),
    lambda: raises(ValueError, Tokenizer.from_bytes, data),
    lambda: raises(ValueError, drop_in, large),
]
given = [text, data, long_text, long_line, wide, texts, strings, ids, rows, large, added]
given += [tokenizer, drop_in, core, None, True, ids[0]]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def state():
    gc.collect()
    return [sys.getrefcount(item) for item in given], len(gc.get_objects()), sys.getallocatedblocks()

def repeat(total):
    for index in range(total // len(calls)):
        for call in calls:
            call()
        if index % 200 == 0:
            # Dear ones: tokenizers made anew.
            copy.deepcopy(drop_in).add_tokens(added)
            pickle.loads(pickle.dumps(tokenizer))

# Python keeps what it looked up of late: as many calls as are counted, before.
repeat(min(int(sys.argv[1]), 100_000))
before, objects, blocks = state()
memory = resident() if os.path.exists("/proc/self/statm") else None
repeat(int(sys.argv[1]))
after, objects_after, blocks_after = state()
differences = [second - first for first, second in zip(before, after)]
# None and small numbers are counted by all the world; a leak would be in the thousands.
assert max(differences) <= 50, differences
assert objects_after - objects <= 50, objects_after - objects
# As many would be one for each round.
assert blocks_after - blocks <= int(sys.argv[1]) // len(calls), blocks_after - blocks
print(0 if memory is None else resident() - memory)
"""


def test_some_thousands_of_calls_leave_nothing():
    run(CALLS, "6000")


@pytest.mark.slow
def test_a_million_calls_leave_nothing():
    """With a bound on memory: a byte for each call would be 1 MB."""
    assert int(run(CALLS, "1000000", seconds=3600)) < 4_000_000
