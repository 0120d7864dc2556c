"""`StreamDecoder`, as Python sees it."""

import numpy as np
import pytest

TEXT = "Hello wörld 🙂 你好, and  more\n"


@pytest.fixture
def ids(default_tokenizer):
    return default_tokenizer.encode(TEXT)


def test_one_by_one(default_tokenizer, ids):
    stream = default_tokenizer.stream_decoder()
    parts = [stream.push(id) for id in ids]
    parts.append(stream.finish())
    assert "".join(parts) == TEXT
    assert all("\ufffd" not in part for part in parts)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("make", [list, tuple, np.array, iter])
def test_several_at_once(default_tokenizer, ids, size, make):
    stream = default_tokenizer.stream_decoder()
    parts = [stream.push(make(ids[at : at + size])) for at in range(0, len(ids), size)]
    assert "".join(parts) + stream.finish() == TEXT


def test_numpy_scalars(default_tokenizer, ids):
    stream = default_tokenizer.stream_decoder()
    parts = [stream.push(id) for id in np.array(ids)]
    parts += [stream.finish()]
    assert "".join(parts) == TEXT
    assert stream.push(np.array(ids[0])) + stream.finish() == default_tokenizer.decode(ids[:1])


def test_incomplete_characters_are_held_back(default_tokenizer):
    first, *rest = [default_tokenizer.piece_to_id(f"<0x{byte:02X}>") for byte in "🦣".encode()]
    stream = default_tokenizer.stream_decoder()
    assert stream.push(first) == ""
    assert stream.push(rest[:-1]) == ""
    assert stream.push(rest[-1]) + stream.finish() == "🦣"


def test_finish_gives_what_never_became_complete(default_tokenizer):
    byte = default_tokenizer.piece_to_id("<0xF0>")
    stream = default_tokenizer.stream_decoder()
    assert stream.push(byte) + stream.finish() == default_tokenizer.decode([byte])


def test_a_finished_decoder_begins_anew(default_tokenizer, ids):
    stream = default_tokenizer.stream_decoder()
    for _ in range(2):
        assert stream.push(ids) + stream.finish() == TEXT


def test_prefill_is_context_and_not_shown(default_tokenizer, ids):
    for at in range(1, len(ids)):
        whole = default_tokenizer.stream_decoder()
        shown = whole.push(ids[:at])
        stream = default_tokenizer.stream_decoder(prefill=ids[:at])
        assert shown + stream.push(ids[at:]) + stream.finish() == TEXT


def test_special_tokens(default_tokenizer, ids):
    marked = [default_tokenizer.bos_id, *ids, default_tokenizer.eos_id]
    for skip in (True, False):
        stream = default_tokenizer.stream_decoder(skip_special_tokens=skip)
        expected = default_tokenizer.decode(marked, skip_special_tokens=skip)
        assert stream.push(marked) + stream.finish() == expected


def test_a_refused_push_changes_nothing(default_tokenizer, ids):
    stream = default_tokenizer.stream_decoder()
    begun = stream.push(ids[:3])
    with pytest.raises(IndexError):
        stream.push([*ids[3:], 10**6])
    with pytest.raises(TypeError):
        stream.push([*ids[3:], "x"])
    assert begun + stream.push(ids[3:]) + stream.finish() == TEXT
