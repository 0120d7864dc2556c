"""`LlamaConfig`: defaults, the three spellings of RoPE, JSON both ways with transformers, errors."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import pytest
import torch

from llamatok.models import LlamaConfig, LlamaForCausalLM, OpenLlamaConfig
from support.llama_models import LLAMA3, LONGROPE, SMALL, YARN, transformers

DOCUMENTED = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pretraining_tp": 1,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "head_dim": 128,
    "num_labels": 2,
    "problem_type": None,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "use_return_dict": True,
    "dtype": None,
    "torch_dtype": None,
    "model_type": "llama",
}
SOME = [
    {},
    {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "attention_bias": True,
        "eos_token_id": [2, 7],
        "foo": {"bar": [1]},
    },
    {"dtype": "bfloat16", "num_labels": 3, "tie_word_embeddings": True, "problem_type": "regression"},
    {"id2label": {0: "no", 1: "yes", 2: "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}},
    {"rope_parameters": LLAMA3, "max_position_embeddings": 128},
    {"rope_parameters": YARN, "pad_token_id": 0, "architectures": ["LlamaForCausalLM"]},
    {"rope_parameters": LONGROPE},
    {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5000.0}, "pretraining_tp": 2},
]


def test_the_defaults_are_the_documented_ones():
    config = LlamaConfig()
    assert {name: getattr(config, name) for name in DOCUMENTED} == DOCUMENTED


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "dynamic", "factor": 4}},
            {"rope_type": "dynamic", "rope_theta": 5e5, "factor": 4},
        ),
        ({"rope_parameters": {"rope_theta": 7.0}}, {"rope_type": "default", "rope_theta": 7.0}),
        (
            {"rope_theta": 5e5, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0}},
            {"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0},
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "max_position_embeddings": 64},
            {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 64,
            },
        ),
        (
            {
                "rope_scaling": {"type": "su", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64},
                "original_max_position_embeddings": 32,
            },
            {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 64,
                "long_factor": [2.0] * 64,
                "original_max_position_embeddings": 32,
            },
        ),
    ],
)
def test_every_spelling_of_rope_is_read(spelling, expected):
    given = copy.deepcopy(spelling)
    assert LlamaConfig(**spelling).rope_parameters == expected
    assert spelling == given


@pytest.mark.parametrize("settings", SOME)
def test_json_goes_both_ways_with_transformers(settings, tmp_path):
    ours = LlamaConfig(**{**SMALL, **settings})
    ours.save_pretrained(tmp_path / "ours")
    assert LlamaConfig.from_pretrained(tmp_path / "ours") == ours
    theirs = transformers.LlamaConfig.from_pretrained(tmp_path / "ours")
    expected = transformers.LlamaConfig(**{**SMALL, **settings})
    for name in (*DOCUMENTED, "foo", "architectures"):
        if name in {"rope_theta", "rope_scaling", "use_return_dict", "torch_dtype"}:
            continue
        if name == "rope_parameters":
            theirs.rope_parameters.pop("type", None)  # of the older spelling, which transformers keeps
        assert getattr(theirs, name, None) == getattr(expected, name, None), name
        assert getattr(ours, name, None) == getattr(expected, name, None), name
    expected.save_pretrained(tmp_path / "theirs")
    back = LlamaConfig.from_pretrained(tmp_path / "theirs")
    assert back.to_dict() == ours.to_dict()


@pytest.mark.parametrize("settings", SOME)
def test_the_file_has_what_older_versions_read(settings, tmp_path):
    LlamaConfig(**{**SMALL, **settings}).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    rope = settings.get("rope_parameters", {})
    assert stored["rope_theta"] == rope.get("rope_theta", 10000.0)
    if rope.get("rope_type") == "dynamic":
        assert stored["rope_scaling"] == {"type": "dynamic", "factor": 2.0}
    elif rope:
        assert stored["rope_scaling"]["rope_type"] == rope["rope_type"]
        assert "rope_theta" not in stored["rope_scaling"]
    else:
        assert stored["rope_scaling"] is None
    assert stored.get("torch_dtype") == settings.get("dtype")
    again = {key: value for key, value in stored.items() if key not in {"rope_parameters", "dtype"}}
    assert LlamaConfig.from_dict(again) == LlamaConfig(**{**SMALL, **settings})


def test_unknown_keys_are_kept_and_written():
    config = LlamaConfig(
        foo=3, quantization_config={"bits": 4}, **{"transformers.js_config": {"dtype": "q4"}}
    )
    assert json.loads(config.to_json_string())["transformers.js_config"] == {"dtype": "q4"}
    assert config.foo == 3
    assert LlamaConfig.from_dict(json.loads(config.to_json_string())).quantization_config == {"bits": 4}


def test_data_types_are_torchs_whatever_the_spelling():
    for spelling in ({"dtype": "float16"}, {"torch_dtype": "torch.float16"}, {"torch_dtype": torch.float16}):
        config = LlamaConfig(**spelling)
        assert config.dtype is config.torch_dtype is torch.float16
        assert config.to_dict()["dtype"] == "float16"
    config.torch_dtype = "bfloat16"
    assert config.dtype is torch.bfloat16


def test_older_names_of_rope_can_be_set():
    config = LlamaConfig(**SMALL)
    config.rope_theta = 500.0
    config.rope_scaling = {"type": "linear", "factor": 2.0}
    assert config.rope_parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2.0}


def test_copies_and_pickles_are_equal_and_apart():
    config = LlamaConfig(**SMALL, rope_parameters=LLAMA3, foo=[1])
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        other.rope_parameters["factor"] = 3.0
        assert other != config


def test_mistral_configurations_are_read_with_their_defaults(tmp_path):
    theirs = transformers.MistralConfig()
    theirs.save_pretrained(tmp_path)
    ours = LlamaConfig.from_pretrained(tmp_path)
    for name in ("sliding_window", "num_key_value_heads", "intermediate_size", "max_position_embeddings"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert LlamaConfig.from_dict({"model_type": "mistral"}).sliding_window == 4096
    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "mistral"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 0}, "`hidden_size` must be a whole number of at least 1"),
        ({"num_hidden_layers": 1.5}, "`num_hidden_layers` must be"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "`hidden_size` .30. is no multiple"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "no multiple of `num_key_value_heads`"),
        ({"head_dim": 7}, "`head_dim` must be even"),
        ({"attention_dropout": 1.0}, "`attention_dropout` must be in"),
        ({"rms_norm_eps": float("nan")}, "`rms_norm_eps` must be a number above 0"),
        ({"hidden_act": ["silu"]}, "`hidden_act` must be a name or a function"),
        ({"pad_token_id": "0"}, "`pad_token_id` must be an id"),
        ({"bos_token_id": [1]}, "`bos_token_id` must be an id"),
        ({"eos_token_id": [2, {}]}, "`eos_token_id` must be an id"),
        ({"rms_norm_eps": 0.0}, "`rms_norm_eps` must be a number above 0"),
        ({"num_labels": 0}, "`num_labels` must be"),
        ({"dtype": "float17"}, "`dtype` must be a torch data type"),
        ({"pretraining_tp": 3}, "no multiple of `pretraining_tp`"),
        ({"sliding_window": 0}, "`sliding_window` must be"),
        ({"rope_scaling": "linear"}, "must be a dictionary"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "`spiral` is unknown"),
        ({"rope_scaling": {"type": "linear"}}, "`linear` needs `factor`"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor` must be a number of at least 1"),
        ({"rope_scaling": {"type": "dynamic", "factor": "2"}}, "factor` must be a number"),
        ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor` must be a number"),
        ({"rope_theta": 0}, "rope_theta` must be a number above 0"),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 64}},
            "short_factor` must list 64",
        ),
        ({"rope_parameters": {**LLAMA3, "high_freq_factor": 0.5}}, "high_freq_factor` must be above"),
    ],
)
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**settings)


def test_rope_settings_that_do_nothing_are_told_of():
    with pytest.warns(UserWarning, match="beta_fats"):
        LlamaConfig(**SMALL, rope_parameters={**YARN, "beta_fats": 3})


def test_files_that_hold_no_configuration_are_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"config.json: must hold a JSON object, not list"):
        LlamaConfig.from_pretrained(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not JSON"):
        LlamaConfig.from_pretrained(tmp_path)
    path.write_text('{"hidden_size": -1}')
    with pytest.raises(ValueError, match=r"config.json`: `hidden_size` must be"):
        LlamaConfig.from_pretrained(path)
    path.write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="`model_type` `gpt2`"):
        LlamaConfig.from_pretrained(tmp_path)
    assert LlamaConfig.from_pretrained(tmp_path, model_type="llama").hidden_size == 4096
    with pytest.raises(OSError, match="nowhere"):
        LlamaConfig.from_pretrained(tmp_path / "nowhere")


def test_a_repository_of_the_hub_is_found_in_its_cache(tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "models--somebody--small"
    LlamaConfig(**SMALL).save_pretrained(folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    options = {"cache_dir": tmp_path, "local_files_only": True}
    config = LlamaConfig.from_pretrained("somebody/small", **options, num_labels=5)
    assert (config.hidden_size, config.num_labels, config.name_or_path) == (32, 5, "somebody/small")
    with pytest.raises(OSError, match="cache"):
        LlamaConfig.from_pretrained("somebody/nothing", **options)


def test_a_function_serves_as_activation():
    config = LlamaConfig(**SMALL, hidden_act=torch.nn.functional.silu)
    ids = torch.tensor([[1, 2]])
    model = LlamaForCausalLM(config).eval()
    named = LlamaForCausalLM(LlamaConfig(**SMALL)).eval()
    named.load_state_dict(model.state_dict())
    assert torch.equal(model(ids).logits, named(ids).logits)
    assert config.to_dict()["hidden_act"] == "silu"
    with pytest.raises(ValueError, match="`hidden_act` `swoosh` is unknown"):
        LlamaForCausalLM(LlamaConfig(**SMALL, hidden_act="swoosh"))


def test_open_llama_has_its_own_defaults_and_rules():
    config = OpenLlamaConfig()
    expected = {
        "vocab_size": 100000,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_scaling": None,
        "hidden_dropout_prob": 0.1,
        "attention_dropout_prob": 0.1,
        "use_memory_efficient_attention": True,
        "use_stable_embedding": True,
        "shared_input_output_embedding": True,
        "model_type": "open-llama",
    }
    assert {name: getattr(config, name) for name in expected} == expected
    assert not OpenLlamaConfig(use_memorry_efficient_attention=False).use_memory_efficient_attention
    assert OpenLlamaConfig.from_dict(json.loads(config.to_json_string())) == config
    plain = OpenLlamaConfig.from_dict({"model_type": "llama"})
    assert not plain.use_stable_embedding
    assert not plain.shared_input_output_embedding
    for scaling in (
        {"type": "linear", "factor": 2},
        {"type": "linear", "factor": 1.0},
        {"type": "yarn", "factor": 2.0},
        {"type": "linear", "factor": 2.0, "more": 1},
        {"factor": 2.0, "more": 1},
        "linear",
    ):
        with pytest.raises(ValueError, match="rope_scaling"):
            OpenLlamaConfig(rope_scaling=scaling)
    with pytest.raises(ValueError, match="no biases"):
        OpenLlamaConfig(attention_bias=True)
    with pytest.raises(ValueError, match="as many key and value heads"):
        OpenLlamaConfig(num_key_value_heads=1)


def test_a_configuration_is_no_model_and_no_other_model():
    with pytest.raises(TypeError, match="LlamaConfig"):
        LlamaForCausalLM({"hidden_size": 32})
    with pytest.raises(TypeError, match="OpenLlamaConfig"):
        LlamaForCausalLM(OpenLlamaConfig(**{**SMALL, "pad_token_id": 0}))


def test_nothing_is_said_on_the_way(recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in SOME:
            LlamaConfig(**{**SMALL, **settings})
