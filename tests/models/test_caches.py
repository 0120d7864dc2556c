"""Caches: all kinds give the logits of the whole text; rows are reordered, cropped, repeated."""

from __future__ import annotations

import copy

import pytest
import torch

from llamatok.models import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    QuantizedCache,
    SlidingWindowCache,
    StaticCache,
)
from support.llama_models import SMALL, assert_close, pair, some_ids, transformers

GROUPED = {"num_key_value_heads": 2}


@pytest.fixture
def model():
    return pair(**GROUPED)[1]


def run(model, ids, cache, chunks, **kwargs):
    logits, start = [], 0
    with torch.no_grad():
        for count in chunks:
            out = model(ids[:, start : start + count], past_key_values=cache, use_cache=True, **kwargs)
            assert out.past_key_values is cache
            start += count
            logits.append(out.logits)
    return torch.cat(logits, dim=1)


CACHES = {
    "growing": DynamicCache,
    "growing, no configuration": lambda config: DynamicCache(),
    "static": lambda config: StaticCache(config, 24),
    "static, made at once": lambda config: StaticCache(config, 24, max_batch_size=2, dtype=torch.float32),
    "sliding, wide": lambda config: SlidingWindowCache(config, 64),
}


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("chunks", [(1,) * 20, (7, 1, 1, 8, 3), (20,)])
def test_every_cache_gives_the_logits_of_the_whole_text(model, name, chunks):
    ids = some_ids(2, 20)
    cache = CACHES[name](model.config)
    with torch.no_grad():
        whole = model(ids).logits
    assert_close(run(model, ids, cache, chunks), whole)
    assert cache.get_seq_length() == 20
    cache.reset()
    assert cache.get_seq_length() == 0
    assert_close(run(model, ids, cache, chunks), whole)


@pytest.mark.parametrize("name", [name for name in CACHES if name != "sliding, wide"])
def test_rows_are_reordered_selected_repeated_and_cropped(model, name):
    ids = some_ids(2, 12)
    cache = CACHES[name](model.config)
    run(model, ids, cache, (6, 1))
    cache.crop(5)
    assert cache.get_seq_length() == 5
    cache.crop(-1)
    assert cache.get_seq_length() == 4
    cache.reorder_cache(torch.tensor([1, 0]))
    swapped = ids[[1, 0]]
    with torch.no_grad():
        whole = model(swapped).logits
    assert_close(run(model, swapped[:, 4:], cache, (1, 3)), whole[:, 4:8])
    cache.batch_repeat_interleave(3)
    repeated = swapped.repeat_interleave(3, dim=0)
    assert_close(run(model, repeated[:, 8:], cache, (1, 1)), whole[:, 8:10].repeat_interleave(3, dim=0))
    cache.batch_select_indices(torch.tensor([0, 5, 3]))
    assert_close(run(model, swapped[[0, 1, 1]][:, 10:], cache, (2,)), whole[[0, 1, 1], 10:])


def test_tuples_go_in_and_come_out(model):
    ids = some_ids(2, 9)
    with torch.no_grad():
        whole = model(ids).logits
        first = model(ids[:, :5], use_cache=True).past_key_values
        given = first.to_legacy_cache()
        assert [part.shape for part in given[1]] == [(2, 2, 5, 8)] * 2
        out = model(ids[:, 5:], past_key_values=given, use_cache=True)
    assert isinstance(out.past_key_values, tuple)
    assert out.past_key_values[0][0].shape == (2, 2, 9, 8)
    assert given[0][0].shape == (2, 2, 5, 8)
    assert_close(out.logits, whole[:, 5:])
    back = DynamicCache.from_legacy_cache(out.past_key_values)
    assert back.get_seq_length() == 9
    assert len(back) == 2


def test_a_given_tuple_is_not_written_to(model):
    ids = some_ids(1, 4)
    with torch.no_grad():
        given = model(ids, use_cache=True).past_key_values.to_legacy_cache()
        kept = copy.deepcopy(given)
        for token in (5, 6):
            model(torch.tensor([[token]]), past_key_values=given)
    for layer, same in zip(given, kept, strict=True):
        assert torch.equal(layer[0], same[0])
        assert torch.equal(layer[1], same[1])


def test_transformers_own_cache_serves_too(model):
    ids = some_ids(2, 9)
    cache = transformers.DynamicCache()
    assert_close(run(model, ids, cache, (4, 1, 4)), model(ids).logits)
    assert cache.get_seq_length() == 9


def test_no_cache_is_kept_where_none_is_wanted(model):
    ids = some_ids(1, 4)
    assert model(ids, use_cache=False).past_key_values is None
    model.config.use_cache = False
    assert model(ids).past_key_values is None
    assert model(ids, use_cache=True).past_key_values.get_seq_length() == 4


def test_a_cache_made_in_inference_mode_grows_outside_of_it(model):
    ids = some_ids(1, 9)
    with torch.inference_mode():
        cache = model(ids[:, :5], use_cache=True).past_key_values
        assert cache.get_seq_length() == 5
    with torch.no_grad():
        assert_close(run(model, ids[:, 5:], cache, (1, 3)), model(ids).logits[:, 5:])


def test_steps_write_in_place_and_buffers_double():
    cache = DynamicCache()
    new = torch.ones(1, 1, 1, 2)
    places = []
    for step in range(300):
        keys, values = cache.update(new * step, -new * step, 0)
        places.append(keys.data_ptr())
        assert keys.shape == values.shape == (1, 1, step + 1, 2)
        assert torch.equal(keys[0, 0, :, 0], torch.arange(step + 1.0))
    assert len(set(places[1:])) <= 4


@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_a_sliding_window_cache_equals_the_mask(window):
    config = LlamaConfig(**SMALL, **GROUPED, sliding_window=window)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() > 1:
            parameter.normal_(0, 0.3)
    ids = some_ids(2, 200)
    whole = model(ids).logits
    plain = DynamicCache()  # keeps everything; the mask alone does it
    assert_close(run(model, ids, plain, (90, 1, 1, 108)), whole)
    cache = DynamicCache(config)
    assert_close(run(model, ids, cache, (3, *(1,) * 150, 40, 7)), whole)
    assert cache.get_seq_length() == 200
    assert cache[0][0].shape[2] == window - 1 or window == 1
    assert_close(run(model, ids, StaticCache(config, 200), (100, 1, 99)), whole)


def test_a_sliding_window_cache_goes_back_only_to_what_it_still_has():
    config = LlamaConfig(**SMALL, sliding_window=6)
    model = pair(sliding_window=None)[1]
    ids = some_ids(1, 8)
    cache = SlidingWindowCache(config)
    run(model, ids[:, :4], cache, (4,))
    cache.crop(2)
    assert cache.get_seq_length() == 2
    run(model, ids[:, 2:], cache, (6,))
    with pytest.raises(ValueError, match="cannot go back 1 tokens"):
        cache.crop(-1)
    with pytest.raises(ValueError, match="needs `sliding_window`"):
        SlidingWindowCache(LlamaConfig(**SMALL))


def test_a_full_static_cache_says_so_and_stays_as_it_was(model):
    cache = StaticCache(model.config, 6)
    ids = some_ids(1, 8)
    run(model, ids[:, :5], cache, (5,))
    with pytest.raises(ValueError, match="room for 6 tokens; 5 are in it, and 2 more came"):
        run(model, ids[:, 5:7], cache, (2,))
    assert cache.get_seq_length() == 5
    assert_close(run(model, ids[:, 5:6], cache, (1,)), model(ids[:, :6]).logits[:, 5:])
    assert cache.get_max_cache_shape() == 6


def test_cache_positions_say_where_a_static_cache_writes(model):
    ids = some_ids(1, 6)
    cache = StaticCache(model.config, 16)
    run(model, ids, cache, (6,), cache_position=torch.arange(6))
    other = torch.tensor([[9, 8]])
    got = run(model, other, cache, (2,), cache_position=torch.arange(3, 5))
    assert_close(got, model(torch.cat((ids[:, :3], other), dim=1)).logits[:, 3:])
    assert cache.get_seq_length() == 5


def test_a_static_cache_gives_whole_buffers_where_it_must(model, monkeypatch):
    """What compiled code and accelerators get: full buffers and a mask."""
    ids = some_ids(2, 12)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    whole = model(ids).logits
    padded = model(ids, attention_mask=mask).logits
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    cache = StaticCache(model.config, 20, max_batch_size=2)
    assert_close(run(model, ids, cache, (6, 1, 5)), whole)
    assert cache.is_whole
    cache.reset()
    logits, start = [], 0
    for count in (6, 1, 5):
        part = mask[:, : start + count]
        logits.append(model(ids[:, start : start + count], attention_mask=part, past_key_values=cache).logits)
        start += count
    assert_close(torch.cat(logits, dim=1)[mask.bool()], padded[mask.bool()])


@pytest.mark.slow
def test_a_static_cache_is_compiled_once(model):
    torch._dynamo.reset()
    ids = some_ids(2, 20)
    whole = model(ids).logits
    cache = StaticCache(model.config, 24, max_batch_size=2)
    run(model, ids[:, :6], cache, (6,))
    model.fuse()
    step = torch.compile(model, fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for index in range(6, 20):
            out = step(ids[:, index : index + 1], past_key_values=cache)
            assert_close(out.logits, whole[:, index : index + 1])
    assert cache.get_seq_length() == 20


def test_a_quantized_cache_is_near_and_small(model):
    ids = some_ids(2, 40)
    with torch.no_grad():
        whole = model(ids).logits
    cache = QuantizedCache(model.config, residual_length=8)
    assert_close(run(model, ids, cache, (13, *(1,) * 27)), whole, 0.05)
    assert cache.get_seq_length() == 40
    layer = cache.layers[0]
    assert layer._packed[0].numbers.dtype == torch.int8
    assert layer._keys.shape[2] <= 8
    cache.crop(30)
    assert cache[0][0].shape == (2, 2, 30, 8)
    cache.crop(3)
    cache.reorder_cache(torch.tensor([1, 0]))
    cache.batch_repeat_interleave(2)
    assert cache[1][1].shape == (4, 2, 3, 8)
    got = run(model, ids[[1, 1, 0, 0]][:, 3:], cache, (1, 1))
    assert_close(got, whole[[1, 1, 0, 0], 3:5], 0.05)


def test_quantized_rows_are_off_by_half_a_step_at_most():
    cache = QuantizedCache(LlamaConfig(**SMALL), residual_length=0)
    keys, values = torch.randn(2, 4, 30, 8), torch.zeros(2, 4, 30, 8)
    cache.update(keys, values, 0)
    got = cache[0]
    step = keys.abs().amax(dim=-1, keepdim=True) / 127
    assert ((got[0] - keys).abs() <= 0.5001 * step).all()
    assert not got[1].any()


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16])
def test_static_buffers_of_another_dtype_than_the_model(model, held, computed):
    ids = some_ids(2, 12)
    cache = StaticCache(model.config, 16, max_batch_size=2, dtype=held)
    with torch.no_grad():
        expected = model(ids).logits
    found = run(model.to(computed), ids, cache, (5, 1, 1, 5))
    assert found.dtype == computed
    assert_close(found.float(), expected, 1e-5 if held == computed == torch.float32 else 0.05)


def test_a_window_without_measure_costs_nothing():
    """The buffers grow with the text, not with the window that a file states."""
    config = LlamaConfig(**SMALL, sliding_window=2**31 - 1)
    cache = DynamicCache(config)
    keys = torch.ones(1, config.num_key_value_heads, 5, config.head_dim)
    for _ in range(100):
        cache.update(keys, keys, 0)
    assert cache.get_seq_length() == 500
    assert cache.layers[0].keys.untyped_storage().nbytes() <= 4 * 100 * keys.nbytes
