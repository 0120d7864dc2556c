"""FlashAttention 2 by a stand-in that computes what it documents, and what is said where it is missing."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from llamatok.models import DynamicCache, StaticCache
from support.llama_models import assert_close, pair, some_ids


def reference(q, k, v, *, dropout_p, softmax_scale, causal, window_size):
    """(T, H, D) and (L, K, D), aligned at the bottom right, as the package's documentation says."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    at = torch.arange(len(q))[:, None] + len(k) - len(q)
    keys = torch.arange(len(k))
    allowed = torch.ones(len(q), len(k), dtype=torch.bool)
    if causal:
        allowed &= keys <= at
    if window_size[0] >= 0:
        allowed &= keys >= at - window_size[0]
    scores = torch.einsum("thd,lhd->htl", q, k).float() * softmax_scale
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1).to(v.dtype)
    return torch.einsum("htl,lhd->thd", weights, v)


@pytest.fixture
def flash_attn(monkeypatch):
    pair()  # transformers looks for the package when its model is first imported
    calls = []

    def flash_attn_func(q, k, v, **options):
        calls.append("whole")
        return torch.stack([reference(*row, **options) for row in zip(q, k, v, strict=True)])

    def flash_attn_varlen_func(q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **options):
        calls.append("padded")
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert max_seqlen_q == cu_seqlens_q.diff().max()
        assert max_seqlen_k == cu_seqlens_k.diff().max()
        rows = []
        for row in range(len(cu_seqlens_q) - 1):
            queries = slice(cu_seqlens_q[row], cu_seqlens_q[row + 1])
            keys = slice(cu_seqlens_k[row], cu_seqlens_k[row + 1])
            rows.append(reference(q[queries], k[keys], v[keys], **options))
        return torch.cat(rows)

    stand_in = types.SimpleNamespace(
        flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func, calls=calls
    )
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)
    return stand_in


def half(**settings):
    _, model = pair(dtype=torch.float16, **settings)
    return model


def run(model, ids, chunks, cache=None, mask=None):
    logits, start = [], 0
    with torch.no_grad():
        for count in chunks:
            end = start + count
            part = None if mask is None else mask[:, :end]
            out = model(ids[:, start:end], attention_mask=part, past_key_values=cache, use_cache=True)
            cache, start = out.past_key_values, end
            logits.append(out.logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("settings", [{}, {"num_key_value_heads": 2}, {"sliding_window": 4}])
@pytest.mark.parametrize("chunks", [(12,), (5, 1, 1, 5)])
@pytest.mark.parametrize("padding", [None, "left", "right"])
def test_flash_attention_gets_what_it_documents(flash_attn, settings, chunks, padding):
    model = half(**settings)
    ids, mask = some_ids(2, 12), None
    if padding is not None:
        mask = torch.ones_like(ids)
        mask[1, slice(0, 3) if padding == "left" else slice(10, 12)] = 0
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    expected = run(model, ids, chunks, mask=mask)
    model.set_attn_implementation("flash_attention_2")
    got = run(model, ids, chunks, mask=mask)
    assert_close(got[kept], expected[kept], 0.01)
    assert ("padded" in flash_attn.calls) == (mask is not None)


def test_flash_attention_with_a_static_cache(flash_attn, monkeypatch):
    model = half(num_key_value_heads=2)
    ids = some_ids(2, 9)
    expected = run(model, ids, (4, 1, 4))
    model.set_attn_implementation("flash_attention_2")
    assert_close(run(model, ids, (4, 1, 4), StaticCache(model.config, 16)), expected, 0.01)
    monkeypatch.setattr(StaticCache, "is_whole", property(lambda cache: True))
    monkeypatch.setattr(StaticCache, "get_mask_sizes", lambda cache, *_: (16, 0))
    cache = StaticCache(model.config, 16)
    begin = cache.begin

    def whole(*arguments):
        positions = begin(*arguments)
        cache._filled = None
        return positions

    monkeypatch.setattr(cache, "begin", whole)
    assert_close(run(model, ids, (4, 1, 4), cache), expected, 0.01)


def test_flash_attention_wants_half_precision_or_autocast(flash_attn):
    _, model = pair()
    model.set_attn_implementation("flash_attention_2")
    ids = some_ids(1, 4)
    with pytest.raises(ValueError, match="works in float16 and bfloat16, not in float32"):
        model(ids)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        got = model(ids).logits
    model.set_attn_implementation("sdpa")
    assert_close(got.float(), model(ids).logits, 0.05)
    half_model = half()
    half_model.set_attn_implementation("flash_attention_2")
    with pytest.raises(ValueError, match="takes no 4-D"):
        half_model(ids, attention_mask=torch.ones(1, 1, 4, 4, dtype=torch.bool))


def test_a_missing_package_is_named(monkeypatch):
    pair()
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    _, model = pair()
    with pytest.raises(ImportError, match="needs the package `flash_attn`"):
        model.set_attn_implementation("flash_attention_2")
    assert model.config.attn_implementation == "sdpa"
    _, model = pair()
    model.config.attn_implementation = "flash_attention_2"
    with pytest.raises(ImportError, match="pip install flash-attn"):
        model(some_ids(1, 3))


def test_an_unknown_attention_is_named():
    _, model = pair()
    with pytest.raises(ValueError, match="`attn_implementation` `quick` is unknown"):
        model.set_attn_implementation("quick")


def test_flex_attention_has_no_dropout():
    _, model = pair(attention_dropout=0.5, attn_implementation="flex_attention")
    with torch.no_grad():
        assert model(some_ids(1, 4), past_key_values=DynamicCache()).logits.isfinite().all()
        with pytest.raises(ValueError, match="has no dropout"):
            model.train()(some_ids(1, 4))
