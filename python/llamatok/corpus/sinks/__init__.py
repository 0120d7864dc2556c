"""Sinks: one class for each format of the output."""

from __future__ import annotations

from llamatok.corpus.sinks.base import FinishedFile, FinishedShard, Place, Sink
from llamatok.corpus.sinks.flat import DatatroveSink, MegatronSink, NanoGptSink, NpySink
from llamatok.corpus.sinks.indexed import LitdataSink, MdsSink
from llamatok.corpus.sinks.table import ArrowSink, ParquetSink

__all__ = ["SINKS", "FinishedFile", "FinishedShard", "Place", "Sink"]

SINKS: dict[str, type[Sink]] = {
    "megatron": MegatronSink,
    "nanogpt": NanoGptSink,
    "datatrove": DatatroveSink,
    "litdata": LitdataSink,
    "mds": MdsSink,
    "parquet": ParquetSink,
    "arrow": ArrowSink,
    "npy": NpySink,
}
