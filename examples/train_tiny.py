"""Trains a tiny Llama on the CPU, from text to a folder that `from_pretrained` reads.

    python examples/train_tiny.py book.txt -o tiny
    python examples/train_tiny.py corpus.jsonl.zst --english -o python/llamatok/data/demo

The second line made the demo checkpoint inside the package (`llamatok/data/demo/README.md` tells from which
text). Inputs are plain text, or JSON lines with the text under `text` (.jsonl, .jsonl.zst). The tokenizer
is the embedded one, or the one given by --tokenizer. One thread and 5 minutes are enough for the demo
checkpoint.

Nearly all weights of so small a model are embeddings, and most pieces of a vocabulary of 32,000 never occur
in a small corpus. The model is therefore trained on the pieces that do occur; at the end their rows are put
in place in the whole table, and every other row becomes the mean of the rarest pieces' rows, which are
improbable everywhere.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import llamatok
from llamatok import Tokenizer
from llamatok.models import LlamaConfig, LlamaForCausalLM

#: The model knows no roles: a chat is one text that it goes on with, a message a paragraph.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] | trim + '\\n' }}{% endfor %}"
)

#: Pieces that stand for all that never occur.
RAREST = 500


def documents(paths: list[str], english: bool) -> Iterator[str]:
    """The texts of the inputs, with Unix line ends; without Project Gutenberg's own words about itself."""
    for path in paths:
        for text in _texts(Path(path)):
            text = text.lstrip("\ufeff").replace("\r\n", "\n")
            if "Gutenberg" not in text and (not english or is_english(text)):
                yield text


def _texts(path: Path) -> Iterator[str]:
    if ".jsonl" not in path.suffixes:
        yield path.read_text(encoding="utf-8")
        return
    with path.open("rb") as raw:
        stream: io.BufferedIOBase = raw
        if path.suffix == ".zst":
            import zstandard

            stream = zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)["text"]


def is_english(text: str) -> bool:
    """Whether at least 2 % of the words are `the`: rough, and enough to tell English from the rest."""
    words = re.findall(r"\w+", text.lower())
    return len(words) > 0 and words.count("the") >= 0.02 * len(words)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = Tokenizer.from_file(arguments.tokenizer) if arguments.tokenizer else Tokenizer.default()

    texts = list(documents(arguments.inputs, arguments.english))
    random.shuffle(texts)
    batch = tokenizer.encode_batch(texts, add_bos=True, add_eos=True)
    ids = torch.from_numpy(batch.ids.astype(np.int64))
    # Pieces in the order of their frequency; `compact` maps an id to its place among them.
    counts = torch.bincount(ids, minlength=tokenizer.vocab_size)
    used = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())]
    compact = torch.full((tokenizer.vocab_size,), -1)
    compact[used] = torch.arange(len(used))
    ids = compact[ids]
    held_out = ids[: len(ids) // 50]
    ids = ids[len(held_out) :]
    print(f"{len(texts)} documents, {len(ids):,} tokens, {len(used):,} pieces in use", file=sys.stderr)

    config = LlamaConfig(
        vocab_size=len(used),
        hidden_size=arguments.hidden_size,
        intermediate_size=arguments.intermediate_size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads,
        max_position_embeddings=arguments.max_position_embeddings,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    train(model, ids, arguments)
    print(f"held-out loss: {evaluate(model, held_out, arguments.length):.3f}", file=sys.stderr)
    whole = expand(model, used, tokenizer.vocab_size).to(torch.bfloat16)
    whole.save_pretrained(arguments.output)
    write_tokenizer(Path(arguments.output), arguments)
    print(f"written: {arguments.output}", file=sys.stderr)


def train(model: LlamaForCausalLM, ids: torch.Tensor, arguments: argparse.Namespace) -> None:
    """AdamW with a linear warm-up and a cosine decay to a tenth; windows at random places."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )
    generator = torch.Generator().manual_seed(arguments.seed)
    window = torch.arange(arguments.length)
    model.train()
    recent: list[float] = []
    started = time.process_time()
    for step in range(arguments.steps):
        warm, done = min(1.0, (step + 1) / 100), step / arguments.steps
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * warm * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        starts = torch.randint(len(ids) - arguments.length, (arguments.batch_size, 1), generator=generator)
        rows = ids[starts + window]
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == arguments.steps:
            mean, seconds = sum(recent) / len(recent), time.process_time() - started
            print(f"step {step + 1}: loss {mean:.3f}, {seconds:.0f} s of CPU", file=sys.stderr, flush=True)
            recent.clear()
    model.eval()


@torch.inference_mode()
def evaluate(model: LlamaForCausalLM, ids: torch.Tensor, length: int) -> float:
    """The mean loss over all full windows."""
    rows = ids[: len(ids) // length * length].view(-1, length)
    losses = [model(input_ids=part, labels=part, use_cache=False).loss.item() for part in rows.split(8)]
    return sum(losses) / max(len(losses), 1)


@torch.no_grad()
def expand(model: LlamaForCausalLM, used: torch.Tensor, vocab_size: int) -> LlamaForCausalLM:
    """The same model over the whole vocabulary; `used` are the ids of its pieces, the rarest last."""
    config = LlamaConfig.from_dict({**model.config.to_dict(), "vocab_size": vocab_size})
    whole = LlamaForCausalLM(config).eval()
    state = model.state_dict()
    rows = state["model.embed_tokens.weight"]
    table = rows[-RAREST:].mean(0).repeat(vocab_size, 1)
    table[used] = rows
    state["model.embed_tokens.weight"] = state["lm_head.weight"] = table
    whole.load_state_dict(state)
    return whole


def write_tokenizer(folder: Path, arguments: argparse.Namespace) -> None:
    """Puts beside the weights what `LlamaTokenizer`, `generate` and `llamatok chat` look for."""
    model = Path(arguments.tokenizer or Path(llamatok.__file__).parent / "data" / "default.model")
    if not (folder / "tokenizer.model").exists():
        shutil.copyfile(model, folder / "tokenizer.model")
    tokenizer = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": True,
        "model_max_length": arguments.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "max_new_tokens": 100,
    }
    for name, values in (("tokenizer_config.json", tokenizer), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="plain text, .jsonl or .jsonl.zst")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.model (default: the embedded one)")
    parser.add_argument("--english", action="store_true", help="leave out documents in other languages")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=4, help="windows in a step")
    parser.add_argument("--length", type=int, default=128, help="tokens in a window")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--hidden-size", type=int, default=56)
    parser.add_argument("--intermediate-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--max-position-embeddings", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
