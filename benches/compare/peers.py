"""One adapter a library: how it loads a Llama vocabulary, and its fastest public call for each job.

What is timed is `encode` up to the library's own result; turning that result into flat ids (`flat`) is not
timed. This favours libraries whose result is not flat yet: nobody is charged for our bookkeeping. Libraries
are imported in `load`, in the worker, after the number of threads is set in the environment.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from benches.compare.convert import tokenizer_json

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Flat = tuple[Ids, Offsets]


@dataclass(frozen=True)
class Files:
    """The vocabulary in the forms that peers read, and where a scratch file may lie."""

    model: Path
    tokenizer_json: Path | None
    gpt2: Path | None
    scratch: Path


class Unavailable(Exception):
    """A peer cannot take part here; the message says why."""


class Peer(ABC):
    """A library under measurement. A job that the library has no call for raises `NotImplementedError`."""

    name: ClassVar[str]
    package: ClassVar[str]
    # The call that is timed, for the report.
    call: ClassVar[str]
    # False where ids cannot be compared, because the vocabulary is another one.
    llama: ClassVar[bool] = True

    def __init__(self, files: Files, threads: int) -> None:
        self.files = files
        self.threads = threads

    @classmethod
    def version(cls) -> str:
        """Look up the installed version; `Unavailable` when there is none."""
        try:
            return metadata.version(cls.package)
        except metadata.PackageNotFoundError:
            raise Unavailable(f"not installed: `{cls.package}`") from None

    @abstractmethod
    def load(self) -> None:
        """Import the library and load the vocabulary."""

    @abstractmethod
    def encode(self, documents: list[str]) -> Any:
        """Do the job itself: ids of each document, in the library's leanest form."""

    @abstractmethod
    def flat(self, result: Any) -> Flat:
        """Turn `encode`'s result into flat ids and where each document starts."""

    def encode_one(self, text: str) -> list[int]:
        """Encode one text to a list of ints."""
        raise NotImplementedError

    def count(self, documents: list[str]) -> Any:
        """Tell the number of tokens of each document."""
        raise NotImplementedError

    def padded(self, documents: list[str]) -> Any:
        """Encode to a rectangle of ids with a mask or lengths."""
        raise NotImplementedError

    def decode_input(self, result: Any) -> Any:
        """Bring `encode`'s result into the form that `decode` takes fastest; not timed."""
        return lists(self.flat(result))

    def decode(self, ids: Any) -> Any:
        """Turn ids back into each document's text, as text or bytes."""
        raise NotImplementedError

    def _json(self) -> str:
        """`tokenizer.json`: the user's, or one converted from the model."""
        if self.files.tokenizer_json is not None:
            return str(self.files.tokenizer_json)
        path = self.files.scratch / "tokenizer.json"
        if not path.exists():
            try:
                text = tokenizer_json(self.files.model.read_bytes())
            except ValueError as error:
                raise Unavailable(f"needs --tokenizer-json: {error}") from None
            path.write_text(text, encoding="utf-8")
        return str(path)


class Llamatok(Peer):
    """The tokenizer of this repository, with its default cache."""

    name = "llamatok"
    package = "llamatok"
    call = "Tokenizer.encode_batch(list[str], num_threads=)"
    cache_bytes: ClassVar[int | None] = None

    @classmethod
    def version(cls) -> str:
        import llamatok

        # A development build may have no metadata.
        version: str = llamatok.__version__
        return version

    def load(self) -> None:
        from llamatok import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(self.files.model), cache_bytes=self.cache_bytes)

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(documents, num_threads=self.threads)

    def flat(self, result: Any) -> Flat:
        return np.asarray(result.ids, np.uint32), np.asarray(result.offsets, np.int64)

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def count(self, documents: list[str]) -> Any:
        return self.tokenizer.count(documents, num_threads=self.threads)

    def padded(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(documents, num_threads=self.threads).to_padded(pad_id=0)

    def decode_input(self, result: Any) -> Any:
        return result

    def decode(self, ids: Any) -> Any:
        return self.tokenizer.decode_batch(ids, num_threads=self.threads)


class Llamatok256(Llamatok):
    """The tokenizer of this repository, with a cache of 256 MiB."""

    name = "llamatok-256mb"
    call = "the same, from_file(cache_bytes=256 MiB)"
    cache_bytes = 256 << 20


class SentencePiece(Peer):
    """The library whose ids are right by definition."""

    name = "sentencepiece"
    package = "sentencepiece"
    call = "Encode(list[str], return_type='numpy', num_threads=)"

    def load(self) -> None:
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(self.files.model))

    def encode(self, documents: list[str]) -> Any:
        return self.processor.Encode(documents, return_type="numpy", num_threads=self.threads)

    def flat(self, result: Any) -> Flat:
        return joined(result)

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.processor.Encode(text)
        return ids

    def decode(self, ids: Any) -> Any:
        return self.processor.Decode(ids, num_threads=self.threads)


class Tokenizers(Peer):
    """Hugging Face's library."""

    name = "tokenizers"
    package = "tokenizers"
    call = "encode_batch_fast(list[str])"

    def load(self) -> None:
        import tokenizers

        self.tokenizer = tokenizers.Tokenizer.from_file(self._json())

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch_fast(documents, add_special_tokens=False)

    def flat(self, result: Any) -> Flat:
        return joined([encoding.ids for encoding in result])

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Any) -> Any:
        return self.tokenizer.decode_batch(ids, skip_special_tokens=False)


class Gigatoken(Peer):
    """The fastest peer known. `encode_batch` on its tokenizer returns one flat array (awkward's)."""

    name = "gigatoken"
    package = "gigatoken"
    call = "encode_batch(list[str], parallel=)"

    def load(self) -> None:
        # Left to itself gigatoken imports awkward (a quarter of a second) inside the first call.
        import awkward
        import gigatoken

        del awkward
        self.module: Any = gigatoken
        if self.files.tokenizer_json is None:
            try:
                text = tokenizer_json(self.files.model.read_bytes())
            except ValueError:
                # Its own conversion reads more kinds of model than ours; ids then differ on control tokens.
                self.tokenizer = gigatoken.Tokenizer.from_sentencepiece(self.files.model)
            else:
                self.tokenizer = gigatoken.Tokenizer.from_json(text)
        else:
            self.tokenizer = gigatoken.Tokenizer(str(self.files.tokenizer_json))

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(documents, parallel=self.threads > 1)

    def flat(self, result: Any) -> Flat:
        layout = result.layout
        offsets = np.asarray(layout.offsets.data, np.int64)
        return np.asarray(layout.content.data, np.uint32)[offsets[0] : offsets[-1]], offsets - offsets[0]

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).tolist()
        return ids

    def padded(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch_padded(documents, 0, parallel=self.threads > 1)

    def decode_input(self, result: Any) -> Any:
        return rows(self.flat(result))

    def decode(self, ids: Any) -> Any:
        decode = self.tokenizer.decode
        return [decode(row) for row in ids]


class GigatokenBuffer(Gigatoken):
    """gigatoken handed one buffer of all documents with a separator, which its manual recommends."""

    name = "gigatoken-buffer"
    call = "encode_batch(BytesSource(one buffer, separator), parallel=)"
    separator: ClassVar[bytes] = b"\x00\x01\x02next document\x02\x01\x00"

    def load(self) -> None:
        super().load()
        self._joined: dict[int, Any] = {}

    def prepare(self, documents: list[str]) -> None:
        """Join the documents once; not timed."""
        data = self.separator.join(document.encode() for document in documents)
        self._joined[id(documents)] = self.module.BytesSource(data, self.separator)

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(self._joined[id(documents)], parallel=self.threads > 1)


class GigatokenGpt2(Gigatoken):
    """gigatoken on the path its authors tuned: GPT-2's vocabulary, which is not ours to compare ids with."""

    name = "gigatoken-gpt2"
    call = "encode_batch(list[str], parallel=), GPT-2's vocabulary"
    llama = False

    def load(self) -> None:
        import awkward
        import gigatoken

        del awkward
        path = self.files.gpt2 or installed_gpt2()
        if path is None:
            raise Unavailable("no `gpt2.tiktoken` found: name one with --gpt2, or install mlx-whisper")
        self.tokenizer = gigatoken.Tokenizer.from_tiktoken(path, pretokenizer="gpt2")


class Tokie(Peer):
    """tokie. Its `encode_files` returns flat arrays and is no faster than `encode_batch`."""

    name = "tokie"
    package = "tokie"
    call = "encode_batch(list[str])"

    def load(self) -> None:
        import tokie

        self.tokenizer = tokie.Tokenizer.from_json(self._json())

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(documents, add_special_tokens=False)

    def flat(self, result: Any) -> Flat:
        return joined([encoding.ids for encoding in result])

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, documents: list[str]) -> Any:
        return self.tokenizer.count_tokens_batch(documents)

    def decode(self, ids: Any) -> Any:
        return self.tokenizer.decode_batch(ids)


class Splintr(Peer):
    """splintr. Loaded from `tokenizer.json` it caches words; its embedded Llama 2 takes a slower path."""

    name = "splintr-rs"
    package = "splintr-rs"
    call = "from_json(...).encode_batch_flat(list[str])"

    def load(self) -> None:
        import splintr

        self.tokenizer = splintr.from_json(self._json())

    def encode(self, documents: list[str]) -> Any:
        if self.threads > 1:
            return self.tokenizer.encode_batch_flat(documents)
        # One text at a time spares a pool of one thread its hand-over.
        encode = self.tokenizer.encode_flat
        return [encode(document) for document in documents]

    def flat(self, result: Any) -> Flat:
        if isinstance(result, list):
            return joined([np.frombuffer(row, np.uint32) for row in result])
        ids, offsets = result
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64).astype(np.int64)

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def decode(self, ids: Any) -> Any:
        return self.tokenizer.decode_batch(ids)


class Kitoken(Peer):
    """kitoken, which reads `tokenizer.model` itself and works on one thread."""

    name = "kitoken"
    package = "kitoken"
    call = "encode_all(list[str]), one thread"

    def load(self) -> None:
        import kitoken

        self.tokenizer = kitoken.Kitoken.from_sentencepiece_file(str(self.files.model))

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_all(documents)

    def flat(self, result: Any) -> Flat:
        return joined(result)

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def decode(self, ids: Any) -> Any:
        return self.tokenizer.decode_all(ids)


class Tuetoken(Peer):
    """tuetoken, whose buffer call returns flat ids and offsets."""

    name = "tuetoken"
    package = "tuetoken"
    call = "encode_ordinary_to_buffer(list[str], num_threads=)"

    def load(self) -> None:
        import tuetoken

        self.tokenizer = tuetoken.Tokenizer(self._json())

    def encode(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_ordinary_to_buffer(documents, num_threads=self.threads)

    def flat(self, result: Any) -> Flat:
        return np.asarray(result["data"], np.uint32), np.asarray(result["offsets"], np.int64)

    def encode_one(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode_ordinary(text)
        return ids

    def count(self, documents: list[str]) -> Any:
        return self.tokenizer.count_tokens_batch(documents, num_threads=self.threads)

    def padded(self, documents: list[str]) -> Any:
        return self.tokenizer.encode_batch(documents, num_threads=self.threads)

    def decode_input(self, result: Any) -> Any:
        return (rows if self.threads == 1 else lists)(self.flat(result))

    def decode(self, ids: Any) -> Any:
        if self.threads > 1:
            return self.tokenizer.decode_batch(ids, num_threads=self.threads)
        decode = self.tokenizer.decode_array
        return [decode(row) for row in ids]


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Llamatok,
        Llamatok256,
        Gigatoken,
        GigatokenBuffer,
        GigatokenGpt2,
        SentencePiece,
        Tokenizers,
        Tokie,
        Splintr,
        Kitoken,
        Tuetoken,
    )
}
DEFAULT = [name for name in PEERS if name != GigatokenBuffer.name]
REFERENCE = SentencePiece.name


def thread_environment(threads: int) -> dict[str, str]:
    """Make the environment in which a worker of so many threads starts."""
    names = ("RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS", "OMP_NUM_THREADS")
    parallel = "true" if threads > 1 else "false"
    return {**os.environ, **dict.fromkeys(names, str(threads)), "TOKENIZERS_PARALLELISM": parallel}


def joined(documents: Sequence[Sequence[int] | npt.NDArray[Any]]) -> Flat:
    """Join rows into flat ids."""
    offsets = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(row) for row in documents], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), np.uint32)
    for start, row in zip(offsets[:-1].tolist(), documents, strict=True):
        ids[start : start + len(row)] = row
    return ids, offsets


def rows(flat: Flat) -> list[Ids]:
    """Split flat ids into an array for each document."""
    ids, offsets = flat
    return [np.ascontiguousarray(row) for row in np.split(ids, offsets[1:-1])]


def lists(flat: Flat) -> list[list[int]]:
    """Split flat ids into a list of ints for each document."""
    return [row.tolist() for row in rows(flat)]


def installed_gpt2() -> Path | None:
    """Find GPT-2's ranks inside an installed package, if any ships them."""
    for package in ("whisper", "mlx_whisper"):
        spec = util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / "assets" / "gpt2.tiktoken"
            if path.exists():
                return path
    return None
