"""`llamatok generate`: goes on with a text."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from llamatok.cli import generating, options
from llamatok.cli.errors import InputError, UsageError

EXAMPLES = """\
  llamatok generate "Once upon a time"
  llamatok generate --temperature 0.8 --top-p 0.95 --seed 1 --max-new-tokens 200 "The old king"
  cat story.txt | llamatok generate --model ./TinyLlama --json

Text appears as it is made. With --json, one object tells the text, the tokens and the speed.
"""

DEFAULT_NEW_TOKENS = 128


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "generate", "Go on with a text.", EXAMPLES)
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="the text to go on with; none, or `-`: standard input"
    )
    generating.add_options(parser)
    parser.add_argument("--num-beams", type=options.positive, metavar="N", help="search with N beams")
    parser.add_argument("--echo", action="store_true", help="write the prompt, too")
    parser.add_argument("--json", action="store_true", help="write one JSON object: text, tokens, speed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    settings = generating.settings(arguments)
    if arguments.num_beams is not None:
        settings["num_beams"] = arguments.num_beams
    prompt = _prompt(arguments.prompt)
    model, tokenizer = generating.load(arguments)
    ids = tokenizer(prompt)["input_ids"]
    if not ids:
        raise InputError("the prompt is empty")
    if model.generation_config.max_new_tokens is None:
        settings.setdefault("max_new_tokens", DEFAULT_NEW_TOKENS)
    from llamatok.generation.text import text_decoder

    decoder = text_decoder(tokenizer, skip_special_tokens=True, prefill=ids)
    if arguments.echo and not arguments.json:
        sys.stdout.write(prompt)
    begun = time.perf_counter()
    first = begun
    new: list[int] = []
    parts: list[str] = []
    interrupted = False
    try:
        for tokens in _steps(model, tokenizer, ids, settings, arguments):
            if not new:
                first = time.perf_counter()
            new += tokens
            parts.append(decoder.push(tokens))
            if not arguments.json:
                sys.stdout.write(parts[-1])
                sys.stdout.flush()
    except KeyboardInterrupt:
        interrupted = True
    except ValueError as error:
        raise UsageError(str(error)) from None
    seconds = time.perf_counter() - begun
    parts.append(decoder.finish())
    if arguments.json:
        _write_json(arguments, model, prompt, ids, new, "".join(parts), seconds, first - begun, interrupted)
    else:
        sys.stdout.write(parts[-1] + "\n")
    return 130 if interrupted else 0


def _prompt(given: str | None) -> str:
    if given is not None and given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is no valid UTF-8") from None


def _steps(
    model: Any, tokenizer: Any, ids: list[int], settings: dict[str, Any], arguments: argparse.Namespace
) -> Any:
    """The new ids, step by step; all at once with beams."""
    named = {"tokenizer": tokenizer, "generator": generating.generator(arguments.seed, model)}
    if settings.get("num_beams", 1) > 1:
        sequences = model.generate([ids], **named, **settings)
        yield sequences[0, len(ids) :].tolist()
        return
    from llamatok.generation import stream_tokens

    for tokens in stream_tokens(model, [ids], **named, **settings):
        yield tokens.reshape(-1).tolist()


def _write_json(
    arguments: argparse.Namespace,
    model: Any,
    prompt: str,
    ids: list[int],
    new: list[int],
    text: str,
    seconds: float,
    until_first: float,
    interrupted: bool,
) -> None:
    ended = bool(new) and new[-1] in model.generation_config.eos_token_ids
    reason = "interrupted" if interrupted else "eos" if ended else "stop" if arguments.stop else "length"
    if reason == "stop" and not any(stop in text for stop in arguments.stop):
        reason = "length"
    result = {
        "prompt": prompt,
        "text": prompt + text if arguments.echo else text,
        "finish_reason": reason,
        "prompt_tokens": len(ids),
        "tokens": len(new),
        "ids": new,
        "seconds": round(seconds, 6),
        "seconds_to_first_token": round(until_first, 6),
        "tokens_per_second": round(len(new) / seconds, 3) if seconds > 0 else None,
    }
    json.dump(result, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
