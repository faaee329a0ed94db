"""Rows, and the bytes of files that hold them, for tests of the corpus."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.config import DataConfig
from pipeline.corpus import Document, Rejection, WorkUnitReader, find_sources, plan_work_units, survey_all

ROWS = [{"id": f"d{i}", "text": f"Text {i}, ünï 世界. {'x' * i}"} for i in range(30)]


JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lz4": lz4,
}


def texts(said: list[str] | None = None, **options: Any) -> list[str]:
    data = DataConfig(**options)
    sources = find_sources(data, (said if said is not None else []).append)
    units = plan_work_units(survey_all(sources, data, 400), data, 400)
    items = [item for unit in units for item in WorkUnitReader(data).read(unit)]
    assert all(isinstance(item, Document) for item in items), items
    return [item.text for item in items if isinstance(item, Document)]


def content_of(format_: str) -> bytes:
    if format_ == "jsonl":
        return JSONL
    if format_ == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue().to_pybytes()
    if format_ == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.Table.from_pylist(ROWS).schema) as writer:
            writer.write_table(pa.Table.from_pylist(ROWS))
        return sink.getvalue().to_pybytes()
    delimiter = {"csv": ",", "tsv": "\t"}[format_]
    lines = [["id", "text"], *([row["id"], '"' + row["text"] + '"'] for row in ROWS)]
    return "".join(delimiter.join(line) + "\n" for line in lines).encode()


def items(root: Path, name: str, content: bytes, **options: Any) -> list[Document | Rejection]:
    (root / name).write_bytes(content)
    data = DataConfig(inputs=(str(root / name),), **options)
    surveys = survey_all(find_sources(data, [].append), data, 400)
    return [one for unit in plan_work_units(surveys, data, 400) for one in WorkUnitReader(data).read(unit)]
