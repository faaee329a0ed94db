"""Arrow files (Feather 2) and streams: one document per row; a file is cut between record batches."""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.config import DataConfig
from pipeline.config.paths import is_url
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.file_names import path_on_disk
from pipeline.corpus.formats.columnar.columns import check_schema
from pipeline.corpus.formats.columnar.record_batches import (
    ROWS_AT_ONCE,
    documents_of_batches,
    pieces_of_groups,
)
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.opening.encodings import is_text
from pipeline.corpus.opening.streams import open_binary
from pipeline.corpus.source import Piece, Source
from pipeline.errors import CorpusError


class Arrow(CorpusFormat):
    """See the module."""

    name = "arrow"
    title = "Arrow"
    suffixes = frozenset(("arrow", "feather"))
    is_binary = True

    def has_signature(self, content: bytes) -> bool:
        """See `CorpusFormat`."""
        if content.startswith(b"ARROW1\x00\x00"):
            return not is_text(content)
        # A stream: 0xffffffff, size of the schema's message, a flatbuffer (an offset into that message).
        size, root = (int.from_bytes(content[at : at + 4], "little") for at in (4, 8))
        return content.startswith(b"\xff\xff\xff\xff") and len(content) >= 16 and 8 <= root < size < 2**28

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """See `CorpusFormat`."""
        size = sum(map(len, chunks))
        with open_binary(source.path) as file:
            try:
                rows, schema = _rows_of_batches(file)
            except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
                raise CorpusError(
                    f"input {source.path!r} is no whole Arrow file: {error}; fetch or make it again"
                ) from error
        check_schema(source.path, schema, data)
        total = max(1, sum(rows))
        yield from pieces_of_groups(
            source, [(count, size * count // total) for count in rows], work_unit_bytes
        )

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        path = piece.source.path
        with open_binary(path) if is_url(path) else pa.memory_map(os.fsencode(path_on_disk(path))) as file:
            slices = (
                batch.slice(row, ROWS_AT_ONCE)
                for batch in _batches(file, piece.start, piece.end)
                for row in range(0, batch.num_rows, ROWS_AT_ONCE)
            )
            yield from documents_of_batches(piece, data, slices)


def _batches(file: Any, start: int, end: int) -> Iterator[pa.RecordBatch]:
    """Record batches `start` to `end` (exclusive) of a file in the file format or the streaming one."""
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        yield from (batch for index, batch in enumerate(stream) if start <= index < end)
        return
    for index in range(start, end):
        yield reader.get_batch(index)


def _rows_of_batches(file: Any) -> tuple[list[int], pa.Schema]:
    """Rows of each record batch, and the schema."""
    try:
        reader = pa.ipc.open_file(file)
        return [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)], reader.schema
    except pa.ArrowInvalid:
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        return [batch.num_rows for batch in stream], stream.schema
