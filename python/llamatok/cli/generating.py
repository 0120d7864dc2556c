"""What `generate` and `chat` share: their options, and loading the model."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from typing import Any

from llamatok.cli import options
from llamatok.cli.errors import CommandError, InputError, UsageError

#: More than any machine has; torch takes what a C int holds.
MAX_THREADS = 4096


def number(least: float, most: float) -> Callable[[str], float]:
    """An argument that is a number within bounds, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            bounds = f"from {least:g} to {most:g}" if most != float("inf") else f"of at least {least:g}"
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, got `{text}`")
        return value

    return parse


def whole(text: str) -> int:
    """An argument that is a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got `{text}`")
    return int(text)


def seed(text: str) -> int:
    """An argument that seeds torch's generators."""
    if not text.isdecimal() or len(text) > 20 or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**64 - 1, got `{text}`")
    return int(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declares the model's and the sampling's options."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="PATH",
        help="a folder with a checkpoint and its tokenizer (default: the demo checkpoint of the package)",
    )
    model.add_argument("--dtype", help="the type of the weights: float32, bfloat16, float16, auto")
    model.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cpu)")
    model.add_argument(
        "--weights", metavar="KIND", help="lighter weights: fp16-packed, int8, int4 (default: as they are)"
    )
    model.add_argument("--threads", type=options.positive, metavar="N", help="the number of CPU threads")
    group = parser.add_argument_group("generation", "what is not given is as the checkpoint says")
    group.add_argument("--max-new-tokens", type=options.positive, metavar="N", default=None)
    group.add_argument(
        "--temperature",
        type=number(0, float("inf")),
        metavar="T",
        help="above 0 draws tokens, flatter with higher values; 0 always takes the best one",
    )
    group.add_argument("--top-k", type=whole, metavar="K", help="draw from the K best tokens; 0: from all")
    group.add_argument("--top-p", type=number(0, 1), metavar="P", help="draw from the best that sum up to P")
    group.add_argument("--min-p", type=number(0, 1), metavar="P", help="draw from those of P times the best")
    group.add_argument(
        "--repetition-penalty", type=number(0.01, 100), metavar="X", help="above 1: less repetition"
    )
    group.add_argument("--seed", type=seed, metavar="N", help="makes drawing repeatable")
    group.add_argument(
        "--stop", action="append", metavar="TEXT", help="end after this text; may be given several times"
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Generation settings of the options that were given."""
    found: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("max_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty")
        if getattr(arguments, name) is not None
    }
    if arguments.stop:
        found["stop_strings"] = arguments.stop
    if arguments.temperature is not None:
        found["do_sample"] = arguments.temperature > 0
        if arguments.temperature > 0:
            found["temperature"] = arguments.temperature
    elif {"top_k", "top_p", "min_p"} & found.keys() or arguments.seed is not None:
        found["do_sample"] = True
    if not found.get("do_sample", True):
        useless = sorted({"top_k", "top_p", "min_p"} & found.keys())
        if useless:
            raise UsageError(f"--{useless[0].replace('_', '-')} has no effect with --temperature 0")
    return found


def load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The model and the tokenizer."""
    try:
        import torch
    except ImportError as error:
        raise CommandError(f"this command needs torch ({error})", "pip install 'llamatok[torch]'") from None
    from llamatok import LlamaTokenizer, demo_checkpoint
    from llamatok.models import LlamaForCausalLM

    if arguments.threads is not None:
        if arguments.threads > MAX_THREADS:
            raise UsageError(f"--threads: at most {MAX_THREADS}, got {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    path = demo_checkpoint() if arguments.model is None else arguments.model
    if not os.path.exists(path):
        raise InputError(f"`{path}`: no such file or folder")
    more: dict[str, Any] = {}
    if arguments.dtype is not None:
        more["dtype"] = arguments.dtype
    if arguments.weights is not None:
        more["weight_format"] = arguments.weights
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            tokenizer = LlamaTokenizer.from_pretrained(path)
            model = LlamaForCausalLM.from_pretrained(path, **more).eval()
            if arguments.weights is None:
                model.fuse()
            if arguments.device is not None:
                model = model.to(arguments.device)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"`{path}`: {error}") from None
    return model, tokenizer


def generator(seed: int | None, model: Any) -> Any:
    """A source of randomness, where a seed is given."""
    if seed is None:
        return None
    import torch

    return torch.Generator(device=model.device).manual_seed(seed)
