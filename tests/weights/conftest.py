"""Tiny models of transformers, which every format is made from and compared with."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import SHAPES

try:
    import torch
except ImportError:  # every module of this folder skips itself then
    torch = None


def import_transformers() -> Any:
    """transformers, with what it imports late: third-party modules may warn when they are first compiled."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("torchao.quantization", "transformers.modeling_utils", "transformers.generation"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        assert transformers.LlamaForCausalLM
    return transformers


@dataclasses.dataclass
class Reference:
    """A model of transformers on random weights, none of them special: norms are not all 1."""

    model: Any

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach() for name, tensor in self.model.state_dict().items()}

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(input_ids=ids).logits


@pytest.fixture(scope="session")
def reference() -> Callable[..., Reference]:
    """`reference(tie_word_embeddings=True, ...)`: the same weights for the same arguments."""
    transformers = import_transformers()
    made: dict[str, Reference] = {}

    def reference(**options: Any) -> Reference:
        key = repr(sorted(options.items()))
        if key not in made:
            values = {
                "vocab_size": 96,
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 2,
                "max_position_embeddings": 64,
                "rms_norm_eps": 1e-5,
                "initializer_range": 0.1,
                **SHAPES["gqa"],
                **options,
            }
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "norm" in name:
                        parameter.uniform_(0.5, 1.5)
                    if name.endswith(".bias"):
                        parameter.normal_(std=0.1)
            made[key] = Reference(model)
        return made[key]

    return reference


@pytest.fixture
def ids() -> torch.Tensor:
    """Two rows of ids below 96."""
    return torch.randint(3, 96, (2, 17), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def from_folder() -> Callable[[Path], Reference]:
    """What transformers makes of a folder."""
    transformers = import_transformers()

    def from_folder(folder: Path) -> Reference:
        return Reference(transformers.LlamaForCausalLM.from_pretrained(folder).eval())

    return from_folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are fastest on one thread, above all where other programs run."""
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
