"""What a run is asked to do. The settings decide every byte of the output; workers and machines do not."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from llamatok.corpus.errors import CorpusError

__all__ = ["FORMATS", "KINDS", "Settings", "parse_size"]

#: Output formats, by the names that users give.
FORMATS = ("megatron", "nanogpt", "datatrove", "litdata", "mds", "parquet", "arrow", "npy")
#: Kinds of input; "auto" tells them apart by their names.
KINDS = ("auto", "text", "lines", "jsonl", "parquet", "arrow", "csv")
#: Formats with a row for each document, which can hold other columns too.
TABLE_FORMATS = ("parquet", "arrow")

#: What `shard_size` is where it is not given: the chunk size that the readers of these formats are tuned for,
#: and otherwise no limit, since trainers take one file or want to be told how many there are.
DEFAULT_SHARD_BYTES = {"litdata": 64 << 20, "mds": 64 << 20, "parquet": 256 << 20, "arrow": 256 << 20}

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


def parse_size(size: int | str, what: str = "size") -> int:
    """Bytes of `size`: a number, or text such as "64MiB", "1.5GB" or "200M" (powers of ten without the i)."""
    if isinstance(size, int):
        number, unit = float(size), ""
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", size.upper())
        if match is None or match[2] not in _UNITS:
            raise CorpusError(f"{what} is not a size: `{size}`", "write it as 500MB or 1GiB")
        number, unit = float(match[1]), match[2]
    value = number * _UNITS[unit]
    if not 1 <= value < 1 << 63:
        raise CorpusError(f"{what} must be above 0, and no file is of 2**63 bytes: `{size}`")
    return int(value)


@dataclass(frozen=True)
class Settings:
    """All that decides the output. `llamatok.corpus.tokenize` documents each field."""

    format: str = "megatron"
    kind: str = "auto"
    text_key: str = "text"
    id_key: str | None = None
    separator: str | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None
    add_bos: bool = False
    add_eos: bool = False
    min_tokens: int = 0
    max_tokens: int | None = None
    long_documents: str = "drop"
    dedup: bool = False
    val_fraction: float = 0.0
    shuffle: bool = False
    seed: int = 0
    pack: int | None = None
    pack_remainder: str = "drop"
    position_ids: bool = True
    shard_bytes: int | None = None
    invalid_utf8: str = "reject"
    strict: bool = False
    skip_damaged: bool = False
    block_bytes: int = 4 << 20
    unit_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        _one_of("format", self.format, FORMATS)
        _one_of("kind", self.kind, KINDS)
        _one_of("long_documents", self.long_documents, ("drop", "truncate"))
        _one_of("pack_remainder", self.pack_remainder, ("drop", "pad"))
        _one_of("invalid_utf8", self.invalid_utf8, ("reject", "replace"))
        for name in ("text_key", "id_key", "separator", "delimiter"):
            _is_text(name, getattr(self, name))
        for name in self.columns or ():
            _is_text("columns", name)
        if not self.text_key:
            raise CorpusError("text_key is empty")
        if self.separator is not None and not self.separator:
            raise CorpusError("separator is empty", 'for a document a line, kind="lines"')
        if self.separator is not None and self.kind not in ("auto", "text"):
            raise CorpusError(f"separator is for plain text, not for kind `{self.kind}`")
        if self.delimiter is not None and len(self.delimiter.encode()) != 1:
            raise CorpusError(f"delimiter must be one ASCII character: `{self.delimiter}`")
        if self.min_tokens < 0:
            raise CorpusError(f"min_tokens must not be negative: {self.min_tokens}")
        if self.max_tokens is not None and self.max_tokens < max(1, self.min_tokens):
            raise CorpusError(f"max_tokens must be at least 1 and min_tokens: {self.max_tokens}")
        if not 0.0 <= self.val_fraction < 1.0:
            raise CorpusError(f"val_fraction must be at least 0 and below 1: {self.val_fraction}")
        if self.pack is not None and not 2 <= self.pack <= 1 << 24:
            raise CorpusError(f"pack must be between 2 and {1 << 24} tokens: {self.pack}")
        if self.seed < 0 or self.seed >= 1 << 64:
            raise CorpusError(f"seed must be between 0 and 2**64 - 1: {self.seed}")
        if not 1 << 10 <= self.block_bytes < 1 << 31:
            raise CorpusError(f"block_bytes must be at least 1024, and below 2 GiB: {self.block_bytes}")
        if self.columns and self.format not in TABLE_FORMATS:
            raise CorpusError(
                f"format `{self.format}` has no room for source columns",
                "use --format parquet or --format arrow",
            )
        if self.columns and self.pack is not None:
            raise CorpusError("packed sequences hold parts of several documents, so they cannot keep columns")
        if self.shard_bytes is not None and self.format in ("litdata", "mds") and self.shard_bytes >= 1 << 32:
            raise CorpusError(
                f"a shard of format `{self.format}` must be below 4 GiB: {self.shard_bytes} bytes"
            )

    @property
    def shard_limit(self) -> int | None:
        """Bytes of tokens (of rows, in the table formats) at which a shard ends, or None for no limit."""
        return self.shard_bytes if self.shard_bytes is not None else DEFAULT_SHARD_BYTES.get(self.format)

    @property
    def keeps_columns(self) -> bool:
        """Whether source columns go to the output."""
        return self.format in TABLE_FORMATS and self.pack is None and self.columns != ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return ("train", "val") if self.val_fraction else ("train",)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values."""
        values = dataclasses.asdict(self)
        if self.columns is not None:
            values["columns"] = list(self.columns)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """The settings that `to_json` gave."""
        columns = values.get("columns")
        return cls(**{**values, "columns": None if columns is None else tuple(columns)})


def _is_text(what: str, value: str | None) -> None:
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise CorpusError(f"{what} is not text that UTF-8 can hold: {value!r}") from None


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise CorpusError(f"{what} is not known: `{value}`", f"one of {', '.join(allowed)}")
