"""The plan of a run: which inputs, divided into which units, read as what. It is made once and kept."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import llamatok
from llamatok.corpus.documents import Unit
from llamatok.corpus.errors import CorpusError, InputChangedError, OutputError
from llamatok.corpus.inputs import DATASET, Input, arguments_of, dataset_inputs, list_inputs
from llamatok.corpus.settings import Settings
from llamatok.corpus.shuffle import bucket_count
from llamatok.corpus.sources import json_fields, split_input
from llamatok.corpus.tokenizers import TokenizerSource

__all__ = ["Plan"]

#: Bytes of text in a byte of compressed input, and bytes of tokens in a byte of text: rough, for the number
#: of buckets of a shuffle only.
TEXT_PER_COMPRESSED_BYTE = 4
TOKENS_PER_TEXT_BYTE = 0.6

#: Inputs of these kinds are divided by what their contents say, so nothing of a changed one can be trusted.
DIVIDED_INSIDE = ("parquet", "arrow", DATASET)


@dataclass
class Plan:
    """What is to be done, all of it known before the first block is read."""

    arguments: list[str]
    settings: Settings
    tokenizer: str
    tokenizer_sha256: str
    version: str
    inputs: list[Input]
    units: list[Unit]
    schema: pa.Schema | None
    buckets: int

    @classmethod
    def make(cls, inputs: list[Any], settings: Settings, source: TokenizerSource) -> Plan:
        """Lists the inputs and divides them. Raises `CorpusError`."""
        found = list_inputs(inputs, settings.kind)
        if settings.separator is not None and not any(item.kind == "text" for item in found):
            raise CorpusError("separator is for plain text, and no input is that")
        units: list[Unit] = []
        for number, item in enumerate(found):
            units += split_input(number, item, settings, len(units))
        text_bytes = sum(
            (item.size or 0) * (TEXT_PER_COMPRESSED_BYTE if item.compression else 1) for item in found
        )
        return cls(
            arguments_of(inputs),
            settings,
            source.name,
            source.sha256,
            llamatok.__version__,
            found,
            units,
            json_fields(found, settings),
            bucket_count(int(text_bytes * TOKENS_PER_TEXT_BYTE)),
        )

    def to_json(self) -> bytes:
        """The plan as it is kept."""
        schema = None if self.schema is None else base64.b64encode(self.schema.serialize()).decode()
        values = {
            "arguments": self.arguments,
            "settings": self.settings.to_json(),
            "tokenizer": self.tokenizer,
            "tokenizer_sha256": self.tokenizer_sha256,
            "version": self.version,
            "inputs": [item.to_json() for item in self.inputs],
            "units": [[unit.input, unit.start, unit.stop, unit.stored] for unit in self.units],
            "schema": schema,
            "buckets": self.buckets,
        }
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, content: bytes, inputs: list[Any]) -> Plan:
        """A plan that was kept; datasets are taken from `inputs`."""
        values = json.loads(content)
        datasets = dataset_inputs(inputs)
        schema = values["schema"]
        return cls(
            values["arguments"],
            Settings.from_json(values["settings"]),
            values["tokenizer"],
            values["tokenizer_sha256"],
            values["version"],
            [datasets.get(item["path"]) or Input(**item) for item in values["inputs"]],
            [Unit(i, *unit) for i, unit in enumerate(values["units"])],
            None if schema is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))),
            values["buckets"],
        )

    def check_same(self, inputs: list[Any], settings: Settings, source: TokenizerSource, output: str) -> None:
        """Raises `OutputError` unless the run that is asked for is the one that was planned."""
        given, planned = settings.to_json(), self.settings.to_json()
        differing = [
            f"{name} ({planned[name]!r}, now {given[name]!r})"
            for name in given
            if given[name] != planned[name]
        ]
        if arguments_of(inputs) != self.arguments:
            differing.append("the inputs")
        if source.sha256 != self.tokenizer_sha256:
            differing.append(f"the tokenizer ({self.tokenizer}, sha256 {self.tokenizer_sha256[:12]}...)")
        if self.version != llamatok.__version__:
            differing.append(f"the version of llamatok ({self.version})")
        if differing:
            raise OutputError(
                f"`{output}` belongs to another run, which differs in: {', '.join(differing)}",
                "repeat that call to resume it, name another output, or start anew with --overwrite",
            )

    def check_inputs(self, unit: int, block: int) -> None:
        """Checks that what is still to be read, from this place on, is as it was planned.

        Raises `MissingInputError`, `InputChangedError`.
        """
        if unit >= len(self.units):
            return
        current = self.units[unit].input
        begun = block > 0 or (unit > 0 and self.units[unit - 1].input == current)
        for number in range(current, len(self.inputs)):
            item = self.inputs[number]
            size = item.current_size()
            # A compressed input is one unit, of which the part that was read is compared when it is read
            # again.
            fixed = item.kind in DIVIDED_INSIDE or (begun and number == current and item.compression is None)
            if size != item.size and fixed:
                raise InputChangedError(
                    f"`{item.path}` has {size} bytes, but had {item.size} when the run began",
                    "put the old one back and resume, or start anew with --overwrite",
                )
