"""A chat that writes as it thinks: pip install 'llamatok[chat,torch]'.

python examples/chat.py [CHECKPOINT]

Each line of standard input is a message. `llamatok chat` is the same with commands and settings.
"""

from __future__ import annotations

import sys

from llamatok import LlamaTokenizer, demo_checkpoint
from llamatok.generation import stream
from llamatok.models import LlamaForCausalLM


def main(folder: str, max_new_tokens: int = 40) -> None:
    """Answer each line, piece by piece, knowing what was said before."""
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    model.fuse()
    messages: list[dict[str, str]] = []
    for line in sys.stdin:
        messages.append({"role": "user", "content": line.strip()})
        # What a user types stays text, even where it looks like a control token.
        ids = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
            sanitize_control_tokens=True,
        )
        answer = ""
        for text in stream(model, tokenizer, ids, max_new_tokens=max_new_tokens, seed=0):
            print(text, end="", flush=True)
            answer += text
        print()
        messages.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    main(*(sys.argv[1:2] or [demo_checkpoint()]))
