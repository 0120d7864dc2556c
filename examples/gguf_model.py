"""Tokenizer and weights from one GGUF file: pip install 'llamatok[gguf,torch]'.

python examples/gguf_model.py model.gguf "Once upon a time"

The tokenizer alone needs neither extra.
"""

from __future__ import annotations

import sys

import torch

from llamatok import Tokenizer
from llamatok.models import LlamaForCausalLM


def main(path: str, prompt: str, max_new_tokens: int = 20) -> None:
    """Go on with a prompt."""
    tokenizer = Tokenizer.from_file(path)
    model = LlamaForCausalLM.from_pretrained(path).eval()
    ids = torch.tensor([tokenizer.encode(prompt, add_bos=True)])
    written = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False)
    print(tokenizer.decode(written[0].tolist(), skip_special_tokens=True))


if __name__ == "__main__":
    main(*sys.argv[1:3])
