"""Answers cases by transformers, in an environment of its own: a message of JSON a line, in and out.

    python -m compat.worker          (from the folder `tests`, by the environment's Python)

The first line written tells the versions; then each line read is a list of cases, each line written the list
of their answers.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from compat.cases import Answerer, Classes


def classes() -> tuple[Classes, Any]:
    """The tokenizers of the installed transformers, and its AddedToken."""
    import transformers
    from transformers import AutoTokenizer, LlamaTokenizer, LlamaTokenizerFast, PreTrainedTokenizerFast

    def from_file(cls: Any) -> Any:
        def make(path: str, **init: Any) -> Any:
            if os.path.isdir(path):
                return cls.from_pretrained(path, **init)
            name = "tokenizer_file" if path.endswith(".json") else "vocab_file"
            return cls(**{name: path}, **init)

        return make

    table = {
        "slow": from_file(LlamaTokenizer),
        "fast": from_file(LlamaTokenizerFast),
        "generic": from_file(PreTrainedTokenizerFast),
        "auto": AutoTokenizer.from_pretrained,
    }
    return table, transformers.AddedToken


def main() -> None:
    # Whatever the libraries print goes to standard error; the protocol has the real standard output.
    channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    warnings.simplefilter("ignore")
    table, added_token = classes()
    answerer = Answerer(table, added_token)
    import tokenizers
    import transformers

    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    print(json.dumps(versions), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps([answerer.answer(case) for case in json.loads(line)]), file=channel, flush=True)


if __name__ == "__main__":
    main()
