"""Labels of spans of characters become labels of tokens: pip install llamatok.

python examples/ner_labels.py

A token has the label of the span that its characters are in: B- the first one of a span, I- the others, and O
where there is none. A space within a token is no part of a name, so a token counts by the rest of it.
"""

from __future__ import annotations

from llamatok import LlamaTokenizer

TEXT = "Ada Lovelace met Charles Babbage in London in 1833."
#: Begin, end (exclusive) and kind, in characters.
SPANS = [(0, 12, "PER"), (17, 32, "PER"), (36, 42, "LOC"), (46, 50, "DATE")]


def token_labels(
    tokenizer: LlamaTokenizer, text: str, spans: list[tuple[int, int, str]]
) -> list[tuple[str, str]]:
    """The tokens of a text, each with its label."""
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    labels = ["O"] * len(encoding["input_ids"])
    for begin, end, kind in spans:
        inside = False
        for token, (start, stop) in enumerate(encoding["offset_mapping"]):
            start += len(text[start:stop]) - len(text[start:stop].lstrip())
            if encoding["special_tokens_mask"][token] or not begin <= start < min(end, stop):
                continue
            labels[token] = f"{'I' if inside else 'B'}-{kind}"
            inside = True
    return list(zip(encoding.tokens(), labels, strict=True))


def main() -> None:
    """Print a line for each token."""
    for token, label in token_labels(LlamaTokenizer.default(), TEXT, SPANS):
        print(f"{token}\t{label}")


if __name__ == "__main__":
    main()
