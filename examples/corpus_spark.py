"""Tokenize inside a Spark job of your own, through Arrow: pip install 'llamatok[corpus]' pyspark (needs
Java).

python examples/corpus_spark.py corpus.jsonl tokens/
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from llamatok.corpus import BatchTokenizer

tokenizer = BatchTokenizer(add_eos=True)


def main(source: str, target: str) -> None:
    """Read JSON lines, add a column of ids, write Parquet."""
    spark = SparkSession.builder.appName("tokens").getOrCreate()
    frame = spark.read.json(source)
    ids = StructField("input_ids", ArrayType(IntegerType()))

    def with_ids(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return map(tokenizer, batches)

    tokens = frame.mapInArrow(with_ids, StructType([*frame.schema.fields, ids]))
    tokens.write.mode("overwrite").parquet(target)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:3])
