"""From documents as token ids to the bytes of a shard (`format`)."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.shards.format import SCHEMA


@dataclass(frozen=True)
class EncodedDocument:
    """A document as token ids."""

    doc_id: str
    tokens: NDArray[np.int32]
    """[T]."""
    sentence_lengths: NDArray[np.int32]
    """[S], summing to T."""
    num_bytes: int


def shard_bytes(documents: list[EncodedDocument], metadata: dict[str, Any]) -> pa.Buffer:
    """The file of one shard: one record batch, uncompressed, `metadata` as JSON under the schema's key `sllm`."""
    arrays = [
        _string_array([document.doc_id for document in documents]),
        _list_array([document.tokens for document in documents]),
        _list_array([document.sentence_lengths for document in documents]),
        _array(pa.int64(), np.array([document.num_bytes for document in documents], np.int64)),
    ]
    schema = SCHEMA.with_metadata({"sllm": json.dumps(metadata, sort_keys=True)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue()


def _array(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """The same memory as an Arrow array; `pa.array` would import pandas."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _list_array(rows: list[NDArray[np.int32]]) -> pa.ListArray:
    return pa.ListArray.from_arrays(
        _array(pa.int32(), _offsets(map(len, rows))), _array(pa.int32(), np.concatenate(rows))
    )


def _string_array(rows: list[str]) -> pa.Array:
    encoded = [row.encode() for row in rows]
    offsets = pa.py_buffer(_offsets(map(len, encoded)))
    return pa.Array.from_buffers(pa.string(), len(rows), [None, offsets, pa.py_buffer(b"".join(encoded))])


def _offsets(sizes: Iterable[int]) -> NDArray[np.int32]:
    offsets = np.array([0, *itertools.accumulate(sizes)], np.int64)
    assert offsets[-1] < 2**31, "a work unit is far smaller than what 32-bit offsets reach"
    return offsets.astype(np.int32)
