"""`llamatok convert`: weights of other formats into a folder in Hugging Face's layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from llamatok.cli import options
from llamatok.cli.errors import CommandError, UsageError

EXAMPLES = """\
  llamatok convert meta llama-2-7b/ llama-2-7b-hf/
  llamatok convert gguf model.Q4_K.gguf model/ --dtype bfloat16
  llamatok convert llama2c stories15M.bin stories15M/ --tokenizer tokenizer.model

Reads and writes one tensor at a time, so a model may be larger than memory.
Needs the extra `torch`, for GGUF `gguf` too: pip install 'llamatok[torch,gguf]'
"""

#: What each format is, and the names of its files.
FORMATS = {
    "meta": "a folder of Meta's: params.json, consolidated.NN.pth, split in any way",
    "gguf": "a file of llama.cpp, quantized or not",
    "llama2c": "a file of llama2.c (.bin)",
    "hf": "a folder of Hugging Face's, such as one of .bin files",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(
        commands, "convert", "Convert weights to Hugging Face's layout (safetensors).", EXAMPLES
    )
    parser.add_argument(
        "format", choices=list(FORMATS), help="; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    )
    parser.add_argument("input", metavar="IN", help="the file or folder to read")
    parser.add_argument("output", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "float16", "bfloat16"],
        default="auto",
        help="of the weights written (default: that of the weights read)",
    )
    parser.add_argument(
        "--max-shard-size", default="5GB", metavar="SIZE", help="of a file, as 500MB or 5GB (default: 5GB)"
    )
    parser.add_argument(
        "--max-position-embeddings",
        type=options.positive,
        metavar="N",
        help="the longest sequence the model was trained on, which Meta's files do not tell"
        " (default: 2048, 4096, 8192, 16384 or 131072, by what tells the generations apart)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="a tokenizer.model to put beside the weights (default: the one beside the input)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    try:
        from llamatok import weights
    except ImportError as error:
        raise CommandError(
            str(error).partition(": pip install")[0], "pip install 'llamatok[torch]'"
        ) from None
    if not Path(arguments.input).exists():
        raise FileNotFoundError(2, "No such file or directory", arguments.input)
    given: dict[str, Any] = {}
    positions = arguments.max_position_embeddings
    if positions is not None:
        given["config_overrides"] = {"max_position_embeddings": positions}
    try:
        weights.parse_size(arguments.max_shard_size)
    except ValueError as error:
        raise UsageError(f"--max-shard-size: {error}") from None
    try:
        found = weights.format_of(arguments.input)
        if found != arguments.format:
            raise UsageError(
                f"`{arguments.input}` is not {FORMATS[arguments.format]}",
                f"it looks like the format `{found}`",
            )
        weights.convert(
            arguments.input,
            arguments.output,
            dtype=arguments.dtype,
            max_shard_size=arguments.max_shard_size,
            tokenizer=arguments.tokenizer,
            **given,
        )
    except weights.WeightsError as error:
        raise CommandError(str(error)) from None
    return 0
