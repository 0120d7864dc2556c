"""`LlamaConfig`: every parameter of the Llama model, in all the spellings that checkpoints use.

RoPE settings come in three: `rope_theta` with `rope_scaling={"type", "factor"}` (transformers 4.31 to 4.42),
`rope_theta` with `rope_scaling={"rope_type", ...}` (4.43 to 4.57), and `rope_parameters={"rope_theta",
"rope_type", ...}` (5.x). All are read; `rope_parameters` is what the object holds, and `save_pretrained`
writes a file that all of them read.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from llamatok._limited import read_object

if TYPE_CHECKING:
    import torch

CONFIG_NAME = "config.json"
_HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only")

# For each kind of RoPE: the settings it cannot do without, then those it may have (transformers 5.23.0).
_ROPE_SETTINGS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "default": (frozenset(), frozenset()),
    "linear": (frozenset({"factor"}), frozenset()),
    "dynamic": (frozenset({"factor"}), frozenset({"original_max_position_embeddings"})),
    "yarn": (
        frozenset({"factor", "original_max_position_embeddings"}),
        frozenset({"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}),
    ),
    "longrope": (
        frozenset({"short_factor", "long_factor", "original_max_position_embeddings"}),
        frozenset({"factor", "attention_factor"}),
    ),
    "llama3": (
        frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}),
        frozenset(),
    ),
}
_ROPE_ALIASES = {"su": "longrope"}  # the name in the first Phi-3 checkpoints

Config = TypeVar("Config", bound="PretrainedConfig")


class PretrainedConfig:
    """What every model's configuration has: JSON both ways, labels, and room for keys it does not know.

    A subclass is a dataclass (`init=False`) whose fields are its parameters; the fields declared here are
    shared. Keys that no field names are kept as attributes and written back, so that a checkpoint's
    configuration survives.
    """

    model_type: str = ""
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    # Other `model_type`s whose checkpoints this class reads, with the defaults that are theirs.
    compatible_model_types: ClassVar[dict[str, dict[str, Any]]] = {}

    architectures: list[str] | None
    output_attentions: bool
    output_hidden_states: bool
    return_dict: bool
    problem_type: str | None
    id2label: dict[int, str]
    label2id: dict[str, int]

    def __init__(self, **kwargs: Any) -> None:
        values = dict(kwargs)
        self.name_or_path = str(values.pop("_name_or_path", values.pop("name_or_path", "")) or "")
        self._attn_implementation = _pop_first(values, ("attn_implementation", "_attn_implementation"))
        old_dtype, new_dtype = values.pop("torch_dtype", None), values.pop("dtype", None)
        self.dtype = new_dtype if new_dtype is not None else old_dtype
        self.architectures = values.pop("architectures", None)
        self.output_attentions = bool(values.pop("output_attentions", False))
        self.output_hidden_states = bool(values.pop("output_hidden_states", False))
        self.return_dict = bool(values.pop("return_dict", values.pop("use_return_dict", True)))
        self.problem_type = values.pop("problem_type", None)
        self._set_labels(values)
        self.model_type = values.pop("model_type", None) or type(self).model_type
        values.pop("transformers_version", None)
        self._read_rope(values)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.name in values:
                setattr(self, field.name, values.pop(field.name))
            elif field.name not in self.__dict__:
                setattr(self, field.name, field.default)
        for name, value in values.items():
            own = getattr(type(self), name, None)
            if isinstance(own, property) or callable(own) or name.startswith("__"):
                raise ValueError(f"`{name}` cannot be set in a {type(self).__name__}")
            setattr(self, name, value)
        self._complete()
        self.validate()

    def _read_rope(self, values: dict[str, Any]) -> None:
        """Take the RoPE settings out of `values`; for configurations that have none, nothing to do."""

    def _complete(self) -> None:
        """Fill in the parameters whose default depends on others."""

    def validate(self) -> None:
        """Raise a ValueError that names the parameter and the mend when something is wrong."""

    def _set_labels(self, values: dict[str, Any]) -> None:
        id2label, num_labels = values.pop("id2label", None), values.pop("num_labels", None)
        label2id = values.pop("label2id", None)
        if id2label is None:
            self.num_labels = 2 if num_labels is None else num_labels
        else:
            if not isinstance(id2label, Mapping):
                raise ValueError(f"`id2label` must be a dictionary, got {type(id2label).__name__}")
            _check_count("num_labels", len(id2label))
            self.id2label = {int(index): label for index, label in id2label.items()}
            self.label2id = {label: index for index, label in self.id2label.items()}
            if num_labels is not None and num_labels != len(self.id2label):
                self.num_labels = num_labels
        if label2id is not None and (id2label is not None or len(label2id) == self.num_labels):
            self.label2id = {label: int(index) for label, index in label2id.items()}

    @property
    def num_labels(self) -> int:
        """Number of labels of a classification head; setting it names them `LABEL_0`, `LABEL_1`, ..."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        _check_count("num_labels", count)
        if getattr(self, "id2label", None) is None or len(self.id2label) != count:
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def use_return_dict(self) -> bool:
        """The older name of `return_dict`."""
        return self.return_dict

    @property
    def attn_implementation(self) -> str:
        """`"sdpa"` (where none was chosen), `"eager"`, `"flash_attention_2"` or `"flex_attention"`."""
        return self._attn_implementation or "sdpa"

    @attn_implementation.setter
    def attn_implementation(self, name: str | None) -> None:
        self._attn_implementation = name

    @property
    def dtype(self) -> torch.dtype | None:
        """Data type of the stored weights, or None where unknown; `torch_dtype` in transformers 4.x."""
        return self._dtype

    @dtype.setter
    def dtype(self, value: torch.dtype | str | None) -> None:
        self._dtype = _dtype(value)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The older name of `dtype`."""
        return self._dtype

    @torch_dtype.setter
    def torch_dtype(self, value: torch.dtype | str | None) -> None:
        self.dtype = value

    def to_dict(self) -> dict[str, Any]:
        """All parameters as plain JSON values, in transformers 5.x's spelling."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if not name.startswith("_") and name not in {"name_or_path", "id2label", "label2id"}:
                values[name] = _plain(value)
        values["model_type"] = self.model_type
        if self.id2label != {0: "LABEL_0", 1: "LABEL_1"}:
            values["id2label"] = {str(index): label for index, label in self.id2label.items()}
            values["label2id"] = dict(self.label2id)
        for name, default in (
            ("output_attentions", False),
            ("output_hidden_states", False),
            ("return_dict", True),
        ):
            if values[name] == default:
                del values[name]
        for name in ("architectures", "problem_type"):
            if values[name] is None:
                del values[name]
        if self.dtype is not None:
            values["dtype"] = str(self.dtype).removeprefix("torch.")
        return dict(sorted(values.items()))

    def to_json_string(self) -> str:
        """What `save_pretrained` writes: `to_dict` with the older spellings beside the new.

        transformers 5.x reads the new ones, 4.x the old ones and would otherwise silently take its defaults.
        """
        values = self.to_dict()
        if "dtype" in values:
            values["torch_dtype"] = values["dtype"]
        values.update(self._older_spellings())
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _older_spellings(self) -> dict[str, Any]:
        return {}

    def to_json_file(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json_string` to `path`; the file appears whole or not at all."""
        target = Path(path)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.to_json_string())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into a folder, which is made where it does not exist."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_json_file(folder / CONFIG_NAME)

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any], **kwargs: Any) -> Config:
        """Build from the content of a `config.json`; `kwargs` replace what it says.

        Raises a ValueError for the configuration of another architecture. Where it is known to be the same
        all the same, `model_type="llama"` among `kwargs` says so.
        """
        merged = {**values, **kwargs}
        model_type = merged.get("model_type") or cls.model_type
        if model_type != cls.model_type:
            if model_type not in cls.compatible_model_types:
                known = ", ".join(f"`{name}`" for name in (cls.model_type, *cls.compatible_model_types))
                raise ValueError(
                    f"a {cls.__name__} cannot be read from a configuration with `model_type` `{model_type}`; "
                    f"it reads {known}"
                )
            merged = {**cls.compatible_model_types[model_type], **merged}
        return cls(**merged)

    @classmethod
    def from_json_file(cls: type[Config], path: str | os.PathLike[str], **kwargs: Any) -> Config:
        """Build from a JSON file; ValueError where it holds none, OSError where it cannot be read."""
        values = read_object(path)
        try:
            return cls.from_dict(values, **kwargs)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{path}`: {error}") from error

    @classmethod
    def from_pretrained(
        cls: type[Config], pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> Config:
        """Read the `config.json` of a folder, the file itself, or that of a repository on the Hub.

        The last needs the extra `hub`; `revision`, `cache_dir`, `token` and `local_files_only` are for it.
        OSError where there is no such file.
        """
        name = os.fspath(pretrained_model_name_or_path)
        options = {key: kwargs.pop(key) for key in _HUB_OPTIONS if key in kwargs}
        path = Path(name) / CONFIG_NAME if os.path.isdir(name) else Path(name)
        if not path.exists() and _is_hub_name(name):
            path = _from_hub(name, options)
        config = cls.from_json_file(path, **kwargs)
        config.name_or_path = name
        return config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PretrainedConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {json.dumps(self.to_dict(), indent=2, sort_keys=True)}"


@dataclasses.dataclass(init=False, repr=False, eq=False)
class LlamaConfig(PretrainedConfig):
    """Parameters of a Llama model; the defaults are those of Llama 1 7B (transformers, every version).

    `num_key_value_heads=None` means multi-head attention, 1 multi-query, anything between grouped-query.
    `head_dim=None` means `hidden_size // num_attention_heads`. `rope_parameters` holds `rope_type`
    (`default`, `linear`, `dynamic`, `yarn`, `longrope`, `llama3`), `rope_theta` and what the kind needs;
    `rope_theta` and `rope_scaling` are accepted in its place. `sliding_window` is Mistral's: each token sees
    that many, itself among them.

    Two conventions exist for `max_position_embeddings` under RoPE scaling (leave it, for linear and dynamic;
    raise it, for the newer kinds). The value is taken as given and never changed here.
    """

    model_type: ClassVar[str] = "llama"  # type: ignore[misc]
    compatible_model_types: ClassVar[dict[str, dict[str, Any]]] = {
        "mistral": {
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "max_position_embeddings": 4096 * 32,
            "sliding_window": 4096,
        }
    }

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = None  # type: ignore[assignment]
    hidden_act: str | Callable[[torch.Tensor], torch.Tensor] = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int = 1
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] = None  # type: ignore[assignment]
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    head_dim: int = None  # type: ignore[assignment]
    sliding_window: int | None = None

    def _read_rope(self, values: dict[str, Any]) -> None:
        theta = values.pop("rope_theta", None)
        scaling, parameters = values.pop("rope_scaling", None), values.pop("rope_parameters", None)
        settings = scaling or parameters or {}
        if not isinstance(settings, Mapping):
            raise ValueError(f"`rope_scaling` or `rope_parameters` must be a dictionary, got {settings!r}")
        settings = {key: value for key, value in copy.deepcopy(dict(settings)).items() if key != "type"}
        name = settings.get("rope_type") or (scaling or parameters or {}).get("type") or "default"
        settings["rope_type"] = _ROPE_ALIASES.get(name, name)
        if settings.get("rope_theta") is None:
            settings["rope_theta"] = 10000.0 if theta is None else theta
        # Phi-3 keeps the original length outside; there it has the last word (transformers 5.23.0).
        if "original_max_position_embeddings" in values:
            settings["original_max_position_embeddings"] = values["original_max_position_embeddings"]
        self.rope_parameters = settings

    def _complete(self) -> None:
        for name in ("hidden_size", "num_attention_heads"):
            _check_count(name, getattr(self, name))
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"`hidden_size` ({self.hidden_size}) is no multiple of `num_attention_heads` "
                    f"({self.num_attention_heads}); set `head_dim` where that is meant"
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.pretraining_tp is None:
            self.pretraining_tp = 1
        if self.rope_parameters["rope_type"] in {"yarn", "longrope", "llama3"}:
            self.rope_parameters.setdefault("original_max_position_embeddings", self.max_position_embeddings)

    def validate(self) -> None:
        """Raise a ValueError that names the parameter and the mend when a parameter makes no sense."""
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "pretraining_tp",
            "head_dim",
        ):
            _check_count(name, getattr(self, name))
        if self.sliding_window is not None:
            _check_count("sliding_window", self.sliding_window)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"`num_attention_heads` ({self.num_attention_heads}) is no multiple of `num_key_value_heads` "
                f"({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"`head_dim` must be even, for RoPE turns pairs; got {self.head_dim}")
        if not 0 <= self.attention_dropout < 1:
            raise ValueError(f"`attention_dropout` must be in [0, 1), got {self.attention_dropout!r}")
        _check_number("rms_norm_eps", self.rms_norm_eps, above=0.0)
        if not isinstance(self.hidden_act, str) and not callable(self.hidden_act):
            raise ValueError(f"`hidden_act` must be a name or a function, got {self.hidden_act!r}")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            _check_token(name, getattr(self, name))
        for name, whole in (("hidden_size", self.hidden_size), ("intermediate_size", self.intermediate_size)):
            if whole % self.pretraining_tp:
                raise ValueError(
                    f"`{name}` ({whole}) is no multiple of `pretraining_tp` ({self.pretraining_tp})"
                )
        validate_rope(self.rope_parameters, self.head_dim)

    @property
    def rope_theta(self) -> float:
        """Base period of RoPE, in positions."""
        return float(self.rope_parameters["rope_theta"])

    @rope_theta.setter
    def rope_theta(self, value: float) -> None:
        self.rope_parameters["rope_theta"] = value

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """The RoPE settings in transformers 4.43's spelling; None for the default kind."""
        if self.rope_parameters["rope_type"] == "default":
            return None
        return {key: value for key, value in self.rope_parameters.items() if key != "rope_theta"}

    @rope_scaling.setter
    def rope_scaling(self, value: Mapping[str, Any] | None) -> None:
        self._read_rope({"rope_scaling": value, "rope_theta": self.rope_theta})
        self._complete()
        self.validate()

    def _older_spellings(self) -> dict[str, Any]:
        scaling = self.rope_scaling
        if scaling is not None and scaling["rope_type"] in {"linear", "dynamic"}:
            # 4.31 to 4.42 insist on these two keys alone, and on a float; 4.43 and later take them as well.
            scaling = {"type": scaling["rope_type"], "factor": float(scaling["factor"])}
        return {"rope_theta": self.rope_theta, "rope_scaling": scaling}


def validate_rope(settings: Mapping[str, Any], head_dim: int) -> None:
    """Check RoPE settings against what their kind needs; ValueError names the setting and the mend."""
    kind = settings["rope_type"]
    if kind not in _ROPE_SETTINGS:
        raise ValueError(
            f"`rope_type` `{kind}` is unknown; there are {', '.join(f'`{name}`' for name in _ROPE_SETTINGS)}"
        )
    required, optional = _ROPE_SETTINGS[kind]
    missing = sorted(name for name in required if settings.get(name) is None)
    if missing:
        raise ValueError(f"`rope_type` `{kind}` needs {', '.join(f'`{name}`' for name in missing)}")
    unknown = sorted(set(settings) - required - optional - {"rope_type", "rope_theta"})
    if unknown:
        warnings.warn(
            f"RoPE settings that `rope_type` `{kind}` does not use: {', '.join(unknown)}", stacklevel=2
        )
    for name in ("rope_theta", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"):
        if settings.get(name) is not None:
            _check_number(f"rope_parameters.{name}", settings[name], above=0.0)
    if settings.get("factor") is not None:
        _check_number("rope_parameters.factor", settings["factor"], least=1.0)
    if settings.get("attention_factor") is not None:
        _check_number("rope_parameters.attention_factor", settings["attention_factor"], least=0.0)
    if "original_max_position_embeddings" in required:
        _check_count(
            "rope_parameters.original_max_position_embeddings", settings["original_max_position_embeddings"]
        )
    if kind == "llama3" and settings["high_freq_factor"] <= settings["low_freq_factor"]:
        raise ValueError("`rope_parameters.high_freq_factor` must be above `rope_parameters.low_freq_factor`")
    for name in ("short_factor", "long_factor"):
        if name in required:
            factors = settings[name]
            count = len(factors) if isinstance(factors, (list, tuple)) else repr(factors)
            if count != head_dim // 2:
                raise ValueError(
                    f"`rope_parameters.{name}` must list {head_dim // 2} numbers, half of `head_dim`; "
                    f"got {count}"
                )
            for factor in factors:
                _check_number(f"rope_parameters.{name}", factor, above=0.0)


def _is_hub_name(name: str) -> bool:
    return (
        name.count("/") == 1 and not name.startswith((".", "/", "~")) and not os.path.isdir(Path(name).parent)
    )


def _from_hub(name: str, options: dict[str, Any]) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        hint = "there is no such folder; to look on the Hub: pip install 'llamatok[hub]'"
        raise FileNotFoundError(2, hint, name) from error
    return Path(hf_hub_download(name, CONFIG_NAME, **options))


#: The largest sizes of a model, so that no `config.json` asks for modules without end: each layer, though its
#: weights are on no device yet, is a dozen of objects.
MAX_COUNT = (1 << 31) - 1
MAX_COUNTS = {"num_hidden_layers": 1 << 12, "num_labels": 1 << 20}


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")
    limit = MAX_COUNTS.get(name, MAX_COUNT)
    if value > limit:
        raise ValueError(f"`{name}` is {value}, more than the limit of {limit}")


def _check_token(name: str, value: Any) -> None:
    """An id, several for the end of sequence, or None; files have -1 where there is no such token."""
    ids = value if isinstance(value, (list, tuple)) and name == "eos_token_id" else [value]
    if any(isinstance(id, bool) or not isinstance(id, (int, type(None))) for id in ids):
        raise ValueError(f"`{name}` must be an id, got {value!r}")


def _check_number(name: str, value: Any, *, least: float | None = None, above: float | None = None) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (least is not None and value < least) or (above is not None and value <= above):
        bound = f"of at least {least}" if least is not None else f"above {above}"
        raise ValueError(f"`{name}` must be a number {bound}, got {value!r}")


def _pop_first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    found = [values.pop(name, None) for name in names]
    return next((value for value in found if value is not None), None)


def _dtype(value: Any) -> torch.dtype | None:
    if value is None or value == "auto":
        return None
    import torch

    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise ValueError(f"`dtype` must be a torch data type or its name, as `bfloat16`; got {value!r}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if value.__class__.__module__ == "torch" and value.__class__.__name__ == "dtype":
        return str(value).removeprefix("torch.")
    return value
