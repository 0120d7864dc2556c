"""A step of one token by the core: the logits of the layers as written, and who is left to those."""

from __future__ import annotations

import pytest
import torch

from llamatok.models import DynamicCache, StaticCache
from llamatok.models import llama as llama_module
from llamatok.models.step import core_linear
from llamatok.weights.kernels import HalfLinear
from support.llama_models import LLAMA3, LONGROPE, YARN, assert_close, pair, some_ids

SETTINGS = {
    "all heads": {},
    "grouped": {"num_key_value_heads": 2},
    "one head of keys": {"num_key_value_heads": 1},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 24},
    "llama3": {"rope_parameters": LLAMA3},
    "yarn": {"rope_parameters": YARN},
    "longrope": {"rope_parameters": LONGROPE},
    "tied": {"tie_word_embeddings": True},
}


@pytest.fixture
def taken(monkeypatch):
    """Whether the core took each step of one token, in order."""
    steps = []
    asked = llama_module.core_step

    def ask(model, x, *rest):
        found = asked(model, x, *rest)
        if x.shape[1] == 1:
            steps.append(found is not None)
        return found

    monkeypatch.setattr(llama_module, "core_step", ask)
    return steps


def half(model):
    """Weights rounded to float16, all of them."""
    from llamatok.models.layers import replace_linears

    replace_linears(model, lambda name, linear: HalfLinear(linear.weight, linear.bias))
    return model


def stepwise(model, ids, mask=None, cache=None, first=4):
    logits = []
    cache = DynamicCache(model.config) if cache is None else cache
    for start, end in [(0, first), *((at, at + 1) for at in range(first, ids.shape[1]))]:
        part = None if mask is None else mask[:, :end]
        logits.append(model(ids[:, start:end], attention_mask=part, past_key_values=cache).logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_logits_are_those_of_the_whole_text(name, rows, taken):
    theirs, ours = pair(**SETTINGS[name])
    # Beyond the first buffers of the cache in "all heads", within the trained lengths elsewhere.
    ids = some_ids(rows, 100 if name == "all heads" else 12)
    found = stepwise(ours.fuse(), ids)
    if name != "longrope":  # whose early keys are turned otherwise in the whole text
        assert_close(found, theirs(ids).logits)
    assert_close(found, stepwise(ours.unfuse(), ids))
    steps = ids.shape[1] - 4
    assert taken == [True] * steps + [False] * steps


@torch.no_grad()
def test_weights_in_float16(taken):
    ours = half(pair(num_key_value_heads=2, attention_bias=True)[1].fuse())
    ids = some_ids(2, 14)
    assert_close(stepwise(ours, ids), ours(ids).logits)
    assert all(taken)


@pytest.mark.parametrize("inference", [torch.no_grad, torch.inference_mode])
def test_padding_on_the_left(inference, taken):
    theirs, ours = pair(num_key_value_heads=2)
    ids, mask = some_ids(3, 14), torch.ones(3, 14, dtype=torch.long)
    mask[0, :3] = 0
    mask[2, :1] = 0
    with inference():
        found = stepwise(ours.fuse(), ids, mask)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        expected = ours(ids, attention_mask=mask).logits
        assert_close(found[mask > 0], expected[mask > 0])
        # Positions of each row's own.
        expected = theirs(ids, attention_mask=mask, position_ids=positions).logits
        cache = DynamicCache(ours.config)
        ours(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], past_key_values=cache)
        last = ours(ids[:, -1:], attention_mask=mask, position_ids=positions[:, -1:], past_key_values=cache)
        assert_close(last.logits, expected[:, -1:])
    assert all(taken)


@torch.no_grad()
def test_a_cache_goes_from_one_to_the_other(taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 16)
    cache = DynamicCache(ours.config)
    logits = [ours(ids[:, :5], past_key_values=cache).logits]
    for at in range(5, 16):
        with torch.set_grad_enabled(at % 2 == 0):
            logits.append(ours(ids[:, at : at + 1], past_key_values=cache).logits.detach())
    assert taken == [at % 2 == 1 for at in range(5, 16)]
    assert_close(torch.cat(logits, dim=1), ours(ids).logits)


@torch.no_grad()
def test_hidden_states_are_given(taken):
    theirs, ours = pair()
    ids = some_ids(1, 6)
    cache = DynamicCache(ours.config)
    ours.fuse()(ids[:, :-1], past_key_values=cache)
    found = ours(ids[:, -1:], past_key_values=cache, output_hidden_states=True).hidden_states
    expected = theirs(ids, output_hidden_states=True).hidden_states
    assert len(found) == len(expected)
    for mine, state in zip(found, expected, strict=True):
        assert_close(mine, state[:, -1:])
    assert taken == [True]


class Doubled(torch.nn.Linear):
    """A layer of somebody's own."""

    def forward(self, x):
        return 2 * super().forward(x)


def _double_output(_module, _arguments, output):
    return 2 * output


CHANGES = {
    "a hook on a layer's part": lambda model: model.model.layers[1].mlp.register_forward_hook(_double_output),
    "a hook on a product": lambda model: model.model.layers[0].self_attn.o_proj.register_forward_hook(
        _double_output
    ),
    "another class": lambda model: setattr(model.model.layers[0].mlp.down_proj, "__class__", Doubled),
    "another activation": lambda model: setattr(
        model.model.layers[0].mlp, "act_fn", torch.nn.functional.gelu
    ),
    "another forward": lambda model: setattr(
        model.model.layers[0].mlp, "forward", lambda x: torch.zeros_like(x)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_what_somebody_changed_is_heeded(name, taken):
    ours = pair()[1].fuse()
    CHANGES[name](ours)
    ids = some_ids(2, 9)
    assert_close(stepwise(ours, ids), ours(ids).logits)
    assert taken == [False] * 5


@torch.no_grad()
def test_other_caches_types_and_attentions_go_the_usual_way(taken):
    ours = pair()[1].fuse()
    ids = some_ids(1, 8)
    expected = ours(ids).logits
    assert_close(stepwise(ours, ids, cache=StaticCache(ours.config, 16)), expected)
    assert_close(stepwise(ours.to(torch.float64), ids), expected.double())
    ours.to(torch.float32).config.attn_implementation = "eager"
    assert_close(stepwise(ours, ids), expected)
    ours.config.attn_implementation = "sdpa"
    with torch.autocast("cpu", torch.bfloat16):
        stepwise(ours, ids)
    assert taken
    assert not any(taken)


@torch.no_grad()
def test_rows_that_the_cache_has_not(taken):
    ours = pair()[1].fuse()
    cache = DynamicCache(ours.config)
    ours(some_ids(2, 5), past_key_values=cache)
    with pytest.raises(ValueError, match=r"`keys` must be \(3, 4, 64, 8\), got \[2, 4, 64, 8\]"):
        ours(some_ids(3, 1), past_key_values=cache)


@pytest.mark.parametrize("rows", [1, 2, 24, 25])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_products_of_a_few_rows(rows, bias):
    layer, x = torch.nn.Linear(40, 33, bias=bias), torch.randn(rows, 1, 40)
    found = core_linear(layer, x)
    assert (found is not None) == (1 < rows <= 24)
    if found is not None:
        assert_close(found, layer(x))
        assert_close(core_linear(layer, x.expand(-1, 1, 40).transpose(0, 1)), layer(x).transpose(0, 1))


@torch.no_grad()
def test_products_that_are_left_to_torch():
    layer, x = torch.nn.Linear(40, 33), torch.randn(2, 40)
    assert core_linear(layer, x) is not None
    assert core_linear(layer.double(), x.double()) is None
    assert core_linear(Doubled(40, 33), x) is None
    assert core_linear(HalfLinear(layer.weight, layer.bias), x) is None
    with torch.enable_grad():
        assert core_linear(layer.float(), x) is None
    handle = layer.register_forward_hook(_double_output)
    assert core_linear(layer, x) is None
    handle.remove()
    assert core_linear(layer, x) is not None
    assert core_linear(layer, torch.empty(0, 40)) is None


def _step(model, ids, **kwargs):
    """The last token's logits, after those before it."""
    cache = DynamicCache(model.config)
    model(ids[:, :-1], past_key_values=cache)
    return model(ids[:, -1:], past_key_values=cache, **kwargs).logits


@torch.no_grad()
def test_embeddings_that_are_views(taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 7)
    embedded = ours.model.embed_tokens(ids)
    expected = ours(ids).logits[:, -1:]
    cache = DynamicCache(ours.config)
    ours(inputs_embeds=embedded[:, :-1], past_key_values=cache)
    assert_close(ours(inputs_embeds=embedded[:, -1:], past_key_values=cache).logits, expected)
    same = some_ids(1, 7)
    expected = ours(same).logits[:, -1:].expand(3, -1, -1)
    cache = DynamicCache(ours.config)
    ours(same[:, :-1].expand(3, -1), past_key_values=cache)
    last = ours.model.embed_tokens(same[:, -1:]).expand(3, -1, -1)
    assert_close(ours(inputs_embeds=last, past_key_values=cache).logits, expected)
    assert taken == [True, True]


@pytest.mark.parametrize("updates", [1, 2])
def test_a_cache_with_gradients_that_was_cropped(updates, taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 9)
    cache = DynamicCache(ours.config)
    logits = [ours(part, past_key_values=cache).logits for part in ids.chunk(updates, dim=1)]
    cache.crop(-1)
    with torch.no_grad():
        found = ours(ids[:, -1:], past_key_values=cache).logits
        assert_close(found, ours(ids).logits[:, -1:])
    assert taken == [True]
    # What was saved for the gradient is as it was.
    sum(part.square().sum() for part in logits).backward()
    found = ours.model.embed_tokens.weight.grad.clone()
    ours.zero_grad()
    ours(ids).logits.square().sum().backward()
    assert_close(found, ours.model.embed_tokens.weight.grad)


@torch.no_grad()
def test_those_who_follow_operations_see_them(taken):
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    ours = pair()[1]
    ids = some_ids(2, 4)
    graph = make_fx(lambda ids: ours(ids, use_cache=False, logits_to_keep=1).logits)(ids)
    other = some_ids(2, 4, seed=1)
    assert_close(graph(other), ours(other, logits_to_keep=1).logits)
    embedded = ours.model.embed_tokens(ids[:, None])
    ours.config.attn_implementation = "eager"
    mapped = torch.vmap(lambda e: ours(inputs_embeds=e, use_cache=False).logits)(embedded)
    assert_close(mapped[:, 0], ours(ids).logits)
    ours.config.attn_implementation = "sdpa"
    counts = []
    for fused in (False, True):
        model = ours.fuse() if fused else ours
        with FlopCounterMode(display=False) as counter:
            _step(model, ids)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]
    assert not any(taken)
    layer, x = HalfLinear(torch.randn(12, 20), None), torch.randn(2, 20)
    assert_close(make_fx(layer)(x)(x[:1]), layer(x[:1]))
    assert_close(torch.vmap(layer)(x), layer(x))


def _set_epsilon(model):
    model.model.layers[0].post_attention_layernorm.variance_epsilon = 0.5


def _set_unaligned(model):
    weight = model.model.layers[1].mlp.down_proj.weight
    room = torch.zeros(weight.numel() * 4 + 1, dtype=torch.uint8)
    moved = torch.frombuffer(memoryview(room.numpy())[1:], dtype=torch.float32).view_as(weight)
    moved.copy_(weight)
    weight.data = moved


def _set_layers(model):
    model.model.layers[1].self_attn.layer_idx = 5


@pytest.mark.parametrize("change", [_set_epsilon, _set_unaligned, _set_layers])
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@torch.no_grad()
def test_parts_that_the_core_does_not_take(change, taken):
    ours = pair()[1].fuse()
    change(ours)
    ids = some_ids(2, 7)
    assert_close(_step(ours, ids), ours(ids).logits[:, -1:])
    assert taken == [False]


@torch.no_grad()
def test_methods_that_were_replaced(monkeypatch, taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 7)
    usual = _step(ours, ids)
    plain = llama_module.LlamaRMSNorm.forward
    monkeypatch.setattr(llama_module.LlamaRMSNorm, "forward", lambda self, x: 2 * plain(self, x))
    doubled = _step(ours, ids)
    assert_close(doubled, ours(ids).logits[:, -1:])
    assert not torch.allclose(doubled, usual)
    assert taken == [True, False]


@torch.no_grad()
def test_dropout_of_attention_alone(taken):
    ours = pair(attention_dropout=0.5)[1].fuse()
    for layer in ours.model.layers:
        layer.self_attn.train()
    ids = some_ids(2, 7)
    assert not torch.equal(_step(ours, ids), _step(ours, ids))
    assert taken == [False, False]


@torch.no_grad()
def test_masks_of_four_dimensions(taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 7)
    allowed = torch.ones(2, 4, 1, 7, dtype=torch.bool)
    allowed[..., 2] = False
    whole = torch.ones(7, 7).tril().bool().expand(2, 4, 7, 7).clone()
    whole[..., -1, 2] = False
    expected = ours(ids, attention_mask=whole).logits[:, -1:]
    for mask in (allowed[:1, :1], allowed[:, :1], allowed):
        assert_close(_step(ours, ids, attention_mask=mask), expected)
    assert taken == [True, True, False]


@torch.no_grad()
def test_rows_that_may_look_nowhere(taken):
    ours = pair()[1].fuse()
    ids = some_ids(2, 7)
    nowhere = torch.zeros(2, 1, 1, 7, dtype=torch.bool)
    found = _step(ours, ids, attention_mask=nowhere)
    assert_close(found, _step(ours.unfuse(), ids, attention_mask=nowhere))
    assert taken == [True, False]


@torch.no_grad()
def test_reordered_repeated_and_legacy_caches(taken):
    ours = pair(num_key_value_heads=2)[1].fuse()
    ids = some_ids(2, 9)
    expected = ours(ids).logits[:, -1:]
    cache = DynamicCache()
    ours(ids[:, :-1], past_key_values=cache)
    cache.reorder_cache(torch.tensor([1, 0]))
    assert_close(ours(ids.flip(0)[:, -1:], past_key_values=cache).logits, expected.flip(0))
    cache.crop(8)
    cache.batch_repeat_interleave(2)
    last = ids.flip(0)[:, -1:].repeat_interleave(2, dim=0)
    assert_close(ours(last, past_key_values=cache).logits, expected.flip(0).repeat_interleave(2, dim=0))
    legacy = ours(ids[:, :-1]).past_key_values.to_legacy_cache()
    assert_close(ours(ids[:, -1:], past_key_values=legacy).logits, expected)
    assert taken == [True] * 3


@torch.no_grad()
def test_threads_may_share_a_model(taken):
    from concurrent.futures import ThreadPoolExecutor

    ours = pair()[1].fuse()
    texts = [some_ids(2, 12, seed=seed) for seed in range(4)]
    expected = [stepwise(ours, ids) for ids in texts]

    def run(ids):
        with torch.no_grad():
            return stepwise(ours, ids)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, one in zip(pool.map(run, texts), expected, strict=True):
                assert torch.equal(found, one)
    assert all(taken)
