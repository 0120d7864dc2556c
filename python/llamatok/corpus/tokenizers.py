"""What a run tokenizes with: the engine's own tokenizer, or one of Hugging Face's interface."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llamatok import Tokenizer
from llamatok._core import Pipeline
from llamatok.corpus.errors import CorpusError

__all__ = ["TokenizerSource"]


class _Encoded(NamedTuple):
    """The ids of texts, one after the other, and where each text begins."""

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LlamaEngine:
    """A `LlamaTokenizer` as it was when the run began, by the interface of `llamatok.Tokenizer`.

    The ids of a text are those of `tokenizer(text)`; `add_bos` and `add_eos` put the tokens where its own
    template does not.
    """

    pipeline: Pipeline
    splits_special: bool
    bos: tuple[str, int] | None
    eos: tuple[str, int] | None
    pad_id: int | None
    vocab_size: int

    @classmethod
    def of(cls, tokenizer: Any) -> LlamaEngine:
        """Raises `CorpusError` where the ids of a text are drawn, or are not those of one pipeline."""
        from llamatok import CodeLlamaTokenizer

        if isinstance(tokenizer, CodeLlamaTokenizer):
            raise CorpusError(
                "a CodeLlamaTokenizer fills gaps, which documents have not",
                "pass a LlamaTokenizer of the same files",
            )
        if tokenizer._dropout is not None:
            raise CorpusError(
                "the tokenizer draws its ids (`enable_sampling` of `sp_model_kwargs`), a run must give the"
                " same bytes again",
                "pass one without it",
            )

        def named(token: Any, id: int | None) -> tuple[str, int] | None:
            return None if token is None or id is None else (str(token), id)

        return cls(
            tokenizer._ready(),
            tokenizer.split_special_tokens,
            named(tokenizer.bos_token, tokenizer.bos_token_id),
            named(tokenizer.eos_token, tokenizer.eos_token_id),
            tokenizer.pad_token_id,
            # Ids may have gaps after the model's.
            1 + max(tokenizer.get_vocab().values()),
        )

    @property
    def bos_id(self) -> int | None:
        """The id of `bos_token`."""
        return None if self.bos is None else self.bos[1]

    @property
    def eos_id(self) -> int | None:
        """The id of `eos_token`."""
        return None if self.eos is None else self.eos[1]

    @property
    def ends_with_eos(self) -> bool:
        """Whether the tokenizer itself puts `eos_token` behind each text."""
        single = self.pipeline.template[0]
        return bool(single) and self.eos is not None and single[-1][1] == self.eos_id

    def encode_batch(
        self, texts: Any, *, add_bos: bool = False, add_eos: bool = False, num_threads: int | None = None
    ) -> _Encoded:
        """The ids of texts: a list, or an Arrow array of strings."""
        batch = self._with(add_bos, add_eos).encode_batch(
            texts.to_pylist() if isinstance(texts, (pa.Array, pa.ChunkedArray)) else list(texts),
            split_special_tokens=self.splits_special,
            num_threads=num_threads,
        )
        return _Encoded(batch.ids, batch.row_offsets)

    def _with(self, add_bos: bool, add_eos: bool) -> Pipeline:
        single, pair = self.pipeline.template
        template = single or [("A", None, 0)]
        if add_bos and self.bos is not None and template[0][1] != self.bos_id:
            template = [(*self.bos, 0), *template]
        if add_eos and self.eos is not None and template[-1][1] != self.eos_id:
            template = [*template, (*self.eos, 0)]
        return self.pipeline if template == single else self.pipeline.with_template(template, pair)

    def digest(self, model: bytes | None) -> str:
        """The SHA-256 of all that decides ids; `model` is the content of its `tokenizer.model`, if any."""
        pipeline = self.pipeline
        settings = (
            pipeline.mode,
            pipeline.legacy,
            pipeline.add_prefix_space,
            self.splits_special,
            pipeline.added_tokens,
            pipeline.template,
            self.bos,
            self.eos,
        )
        content = pipeline.to_json() if model is None else model
        return hashlib.sha256(content + repr(settings).encode()).hexdigest()


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer with the name and the hash that the manifest tells."""

    tokenizer: Tokenizer | LlamaEngine
    name: str
    sha256: str

    @classmethod
    def of(cls, tokenizer: Any) -> TokenizerSource:
        """From a path, a `Tokenizer`, a `LlamaTokenizer`, or None for the embedded one.

        Raises `FileNotFoundError`, `llamatok.ModelFormatError`, `CorpusError`, `TypeError`.
        """
        from llamatok import LlamaTokenizer

        if isinstance(tokenizer, LlamaTokenizer):
            engine = LlamaEngine.of(tokenizer)
            return cls(engine, "a LlamaTokenizer object", engine.digest(tokenizer._model_data))
        name = "embedded"
        if tokenizer is None:
            tokenizer = Tokenizer.default()
        elif isinstance(tokenizer, (str, os.PathLike)):
            name = os.path.basename(os.fspath(tokenizer))
            tokenizer = Tokenizer.from_file(tokenizer)
        elif isinstance(tokenizer, Tokenizer):
            name = "a Tokenizer object"
        else:
            raise TypeError(
                "tokenizer must be a path, a llamatok.Tokenizer or a llamatok.LlamaTokenizer,"
                f" not {type(tokenizer).__name__}"
            )
        # What pickles a tokenizer is its model file, so the hash is that of the file.
        model = tokenizer.__reduce__()[1][0]
        return cls(tokenizer, name, hashlib.sha256(model).hexdigest())

    @property
    def ends_with_eos(self) -> bool:
        """Whether the tokenizer ends each text with its eos unasked."""
        return isinstance(self.tokenizer, LlamaEngine) and self.tokenizer.ends_with_eos
