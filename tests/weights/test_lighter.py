"""Lighter weights: near the model they were made from, checked before they are used, and plain where
they fail."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from llamatok.models import LlamaConfig, LlamaForCausalLM  # noqa: E402
from llamatok.weights import WeightsError, kernels, lighter  # noqa: E402
from llamatok.weights.kernels import (  # noqa: E402
    Fp16PackedLinear,
    HalfLinear,
    Int4Linear,
    Int8Linear,
    LighterLinear,
    Verdict,
)

KINDS = [HalfLinear, Fp16PackedLinear, Int8Linear, Int4Linear]
#: The largest error of logits that random weights lead to, as a share of the largest logit.
LIMITS = {"fp16-packed": 1e-3, "int8": 0.05, "int4": 0.5}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Timings depend on what else the machine does; the tests below decide them."""
    monkeypatch.setattr(lighter, "is_fast", lambda kind, weight: Verdict(True))
    monkeypatch.setattr(lighter, "_speeds", {})


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            if name.endswith("bias"):
                parameter.normal_(std=0.05)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [16, 48, 320])
@pytest.mark.parametrize("columns", [32, 64, 96, 288])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_is_a_product_with_its_rounded_weights(kind, rows, columns, dtype):
    torch.manual_seed(rows + columns)
    weight, bias = torch.randn(rows, columns).to(dtype), torch.randn(rows)
    if kind.refuses(weight):
        pytest.fail(kind.refuses(weight))
    kept = weight.clone()
    for b in (None, bias):
        layer = kind(weight, b)
        assert torch.equal(weight, kept), "the weight was changed"
        rounded = layer.rounded(weight, torch.arange(rows))
        assert float((rounded - weight.float()).norm() / weight.float().norm()) < layer.rounding
        for shape in ((columns,), (1, columns), (2, 3, columns), (70, columns)):
            x = torch.randn(shape)
            expected = torch.nn.functional.linear(x, rounded, b)
            found = layer(x)
            assert found.dtype == torch.float32
            assert found.shape == expected.shape
            assert float((found - expected).abs().max()) <= layer.limit * float(expected.abs().max())
            half = layer(x.to(torch.bfloat16))
            assert half.dtype == torch.bfloat16
        assert kernels.is_accurate(layer, weight, b).accepted


@pytest.mark.parametrize("weight_format", list(LIMITS))
def test_models_stay_near_their_float32_selves(folder, weight_format):
    ids = torch.randint(3, 320, (2, 20))
    plain = LlamaForCausalLM.from_pretrained(folder)
    light = LlamaForCausalLM.from_pretrained(folder, weight_format=weight_format)
    layers = [module for module in light.modules() if isinstance(module, LighterLinear)]
    assert len(layers) == 2 * 4 + 1  # joined projections, and the head
    with torch.inference_mode():
        expected = plain(ids).logits
        found = light(ids).logits
        first = light(ids[:, :9], use_cache=True)
        rest = light(ids[:, 9:], past_key_values=first.past_key_values).logits
    error = float((found - expected).abs().max() / expected.abs().max())
    assert 0 < error < LIMITS[weight_format]
    steps = torch.cat([first.logits, rest], dim=1)
    assert float((steps - found).abs().max() / expected.abs().max()) < LIMITS[weight_format]
    assert light.dtype == torch.float32
    assert not light.training


@pytest.mark.parametrize("weight_format", list(LIMITS))
@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_checkpoints_compute_in_float32(tmp_path, weight_format, tied):
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    ids = torch.randint(3, 320, (1, 8))
    plain = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    light = LlamaForCausalLM.from_pretrained(tmp_path, weight_format=weight_format)
    with torch.inference_mode():
        expected, found = plain(ids).logits, light(ids).logits
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < LIMITS[weight_format]
    # The table of the embedding is that of the file.
    assert light.model.embed_tokens.weight.dtype == torch.bfloat16


def test_the_next_kernel_takes_over_where_the_first_is_slow_or_wrong(folder, monkeypatch):
    ids = torch.randint(3, 320, (2, 20))
    with torch.inference_mode():
        expected = LlamaForCausalLM.from_pretrained(folder)(ids).logits
    with monkeypatch.context() as patch:
        slowly = Verdict(False, "it is slow")
        patch.setattr(lighter, "is_fast", lambda kind, _: slowly if kind is HalfLinear else Verdict(True))
        with pytest.warns(UserWarning, match=r"have another kernel: it is slow \(9, such as lm_head\)$"):
            slow = LlamaForCausalLM.from_pretrained(folder, weight_format="fp16-packed")
    monkeypatch.setattr(lighter, "_speeds", {})
    with monkeypatch.context() as patch:
        patch.setattr(HalfLinear, "forward", lambda self, x: x.new_zeros(*x.shape[:-1], self.out_features))
        with pytest.warns(UserWarning, match=r"have another kernel: its error is"):
            wrong = LlamaForCausalLM.from_pretrained(folder, weight_format="fp16-packed")
    for light in (slow, wrong):
        assert sum(isinstance(module, Fp16PackedLinear) for module in light.modules()) == 9
        with torch.inference_mode():
            found = light(ids).logits
        assert float((found - expected).abs().max() / expected.abs().max()) < LIMITS["fp16-packed"]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 8, 24, 25, 100])
@pytest.mark.parametrize("columns", [1, 15, 33, 100])
def test_float16_layers_of_odd_shapes(rows, columns, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 1000)
    torch.manual_seed(0)
    weight, bias = torch.randn(37, columns), torch.randn(37)
    layer = HalfLinear(weight, bias)
    # A view whose rows are apart.
    x = torch.randn(rows, 2 * columns)[:, ::2]
    expected = torch.nn.functional.linear(x.double(), weight.half().double(), bias.double())
    assert torch.allclose(layer(x).double(), expected, atol=1e-4)


def test_float16_layers_are_copied_stored_and_converted(tmp_path):
    torch.manual_seed(0)
    layer, x = HalfLinear(torch.randn(12, 20), torch.randn(12)), torch.randn(3, 20)
    expected = layer(x)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = HalfLinear(torch.zeros(12, 20), torch.zeros(12))
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(other(x), expected)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    assert torch.allclose(copy.deepcopy(layer).double()(x.double()).float(), expected, atol=1e-5)
    assert layer.to("meta")(x.to("meta")).shape == (3, 12)


def test_float16_layers_give_gradients_to_their_input():
    torch.manual_seed(0)
    weight, x = torch.randn(12, 20), torch.randn(3, 20, requires_grad=True)
    HalfLinear(weight, None)(x).sum().backward()
    assert torch.allclose(x.grad, weight.half().float().sum(dim=0).expand(3, -1), atol=1e-4)


@pytest.mark.parametrize("rows", [2, 40])
def test_float16_layers_in_exported_graphs(rows):
    """Compilers see one operation, whose shape they know."""
    torch.manual_seed(0)
    layer, x = HalfLinear(torch.randn(12, 20), torch.randn(12)).eval(), torch.randn(1, rows, 20)
    graph = torch.export.export(layer, (x,)).module()
    assert torch.equal(graph(x), layer(x))


def test_float16_results_do_not_depend_on_the_other_rows():
    torch.manual_seed(0)
    layer, x = HalfLinear(torch.randn(300, 700), None), torch.randn(24, 700)
    together = layer(x)
    for row in range(24):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_threads_of_torch_and_our_own_do_the_same(monkeypatch):
    torch.manual_seed(0)
    layer, x = HalfLinear(torch.randn(3000, 100), None), torch.randn(2, 100)
    expected = layer(x)
    monkeypatch.setattr(kernels, "gomp_parallel", lambda: None)
    for _ in range(20):
        assert torch.equal(layer(x), expected)


def test_slow_kernels_are_not_used(folder, monkeypatch):
    monkeypatch.setattr(lighter, "is_fast", lambda kind, weight: Verdict(False, "it takes 9 times as long"))
    with pytest.warns(
        UserWarning, match=r"stay plain instead of int8: it takes 9 times as long \(9, such as"
    ):
        light = LlamaForCausalLM.from_pretrained(folder, weight_format="int8")
    assert not any(isinstance(module, LighterLinear) for module in light.modules())
    ids = torch.randint(3, 320, (2, 7))
    with torch.inference_mode():
        expected = LlamaForCausalLM.from_pretrained(folder).fuse()(ids).logits
        assert torch.allclose(light(ids).logits, expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_kernels_are_not_used(folder, monkeypatch, kind):
    right = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: right(self, x) * 1.05)
    name = next(name for name, known in lighter.FORMATS.items() if kind in known)
    monkeypatch.setitem(lighter.FORMATS, name, (kind,))
    with pytest.warns(UserWarning, match="its error is"):
        light = LlamaForCausalLM.from_pretrained(folder, weight_format=name)
    assert not any(isinstance(module, kind) for module in light.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_that_give_nan_are_not_used(kind):
    weight = torch.randn(32, 64)
    layer = kind(weight, None)
    layer.forward = lambda x: torch.full((len(x), 32), torch.nan)
    assert not kernels.is_accurate(layer, weight, None).accepted


def test_what_float16_cannot_hold_stays_plain(folder, tmp_path):
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = 1e6
    model.save_pretrained(tmp_path / "large")
    with pytest.warns(
        UserWarning, match=r"too large for float16 \(1, such as model\.layers\.1\.mlp\.down_proj"
    ):
        light = LlamaForCausalLM.from_pretrained(tmp_path / "large", weight_format="fp16-packed")
    assert isinstance(light.model.layers[1].mlp.down_proj, torch.nn.Linear)
    assert isinstance(light.model.layers[0].mlp.down_proj, HalfLinear)


def test_shapes_that_int4_cannot_hold_stay_plain(tmp_path):
    config = LlamaConfig(
        vocab_size=50, hidden_size=40, intermediate_size=72, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="multiples of 32 and 16"):
        light = LlamaForCausalLM.from_pretrained(tmp_path, weight_format="int4")
    assert not any(isinstance(module, Int4Linear) for module in light.model.layers[0].self_attn.modules())
    assert isinstance(light.model.layers[0].mlp.down_proj, torch.nn.Linear)


def test_shapes_that_crash_the_int8_kernel_stay_plain(tmp_path):
    """It reads past the end of rows whose length is no multiple of its vectors'."""
    config = LlamaConfig(
        vocab_size=50, hidden_size=40, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="40 inputs are no multiple of 32"):
        light = LlamaForCausalLM.from_pretrained(tmp_path, weight_format="int8")
    assert isinstance(light.lm_head, torch.nn.Linear)
    assert isinstance(light.model.layers[0].mlp.down_proj, Int8Linear)


def test_speed_is_measured_on_the_shape(monkeypatch):
    """The check itself, with a kernel that is slow beyond doubt."""
    monkeypatch.setattr(kernels, "CYCLED_BYTES", 1 << 16)

    class Slow(Fp16PackedLinear):
        def forward(self, x):
            for _ in range(300):
                super().forward(x)
            return super().forward(x)

    assert "times a plain layer's time" in kernels.is_fast(Slow, torch.randn(64, 64)).reason


def test_lighter_models_are_not_saved_or_trained(folder, tmp_path):
    light = LlamaForCausalLM.from_pretrained(folder, weight_format="int8")
    with pytest.raises(WeightsError, match="whose weights are int8 cannot be saved"):
        light.save_pretrained(tmp_path / "out")
    assert not any(parameter.requires_grad for parameter in light.parameters())


def test_formats_that_are_not_known_or_not_for_the_device(folder):
    with pytest.raises(WeightsError, match="one of fp16-packed, int8, int4"):
        LlamaForCausalLM.from_pretrained(folder, weight_format="int3")
    with pytest.raises(WeightsError, match="is for the CPU"):
        LlamaForCausalLM.from_pretrained(folder, weight_format="fp16-packed", device="meta")


def test_torchao_takes_over_on_other_devices(folder, monkeypatch):
    """Accelerators use torchao; the CPU stands in for one here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchao.quantization", reason="torchao is not installed")
        from llamatok.weights.open import open_checkpoint

        checkpoint = open_checkpoint(folder)
        light = LlamaForCausalLM(LlamaConfig.from_pretrained(folder))
        lighter._fill_with_torchao(
            light, checkpoint, "int8", torch.float32, torch.device("cpu"), strict=True, progress=None
        )
        ids = torch.randint(3, 320, (1, 8))
        with torch.inference_mode():
            expected = LlamaForCausalLM.from_pretrained(folder)(ids).logits
            found = light.eval()(ids).logits
    assert 0 < float((found - expected).abs().max() / expected.abs().max()) < LIMITS["int8"]
