"""Look through one file before work starts: its digest, its size, and where it can be cut."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import DataConfig
from pipeline.corpus.sources import Source
from pipeline.corpus.streams import open_binary, stamp, text_chunks
from pipeline.errors import CorpusError


@dataclass(frozen=True)
class Piece:
    """A part of one file that is read in one go: `start` to `end` (exclusive), counted in what it is cut by.

    Bytes of uncompressed text for JSONL and CSV (always whole lines), row groups for Parquet, record batches
    for Arrow, rows for `datasets`; a text file is one piece.
    """

    source: Source
    start: int
    end: int
    first_row: int
    """Line (text formats) or row that it starts with, from 0."""
    num_bytes: int
    """Bytes of stored or uncompressed text, for planning."""


@dataclass(frozen=True)
class Survey:
    """What is known of a file before its documents are read."""

    source: Source
    sha256: str
    """Of the bytes as they are stored."""
    num_bytes: int
    """Bytes of text: uncompressed for text formats."""
    stamp: str
    """Changes when the file does (`streams.stamp`)."""
    pieces: tuple[Piece, ...]


def survey_all(sources: Sequence[Source], data: DataConfig, split_bytes: int) -> list[Survey]:
    """`survey` of each source, several at a time: reading, hashing and inflating run outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: survey(source, data, split_bytes), sources))


def survey(source: Source, data: DataConfig, split_bytes: int) -> Survey:
    """Read the file once: digest, size, and pieces of about `split_bytes` (whole documents).

    Raises `CorpusError` for a file that is missing, truncated, or without the column of the text.
    """
    if source.format == "datasets":
        return _survey_dataset(source, data, split_bytes)
    before = stamp(source.path)
    digest = hashlib.sha256()
    chunks = text_chunks(source.path, source.compression, on_raw=digest.update)
    pieces: tuple[Piece, ...]
    if source.format in ("jsonl", "csv"):
        target = min(split_bytes, data.max_bytes or split_bytes)
        pieces = tuple(_line_pieces(source, chunks, target, quoted=source.format == "csv"))
    else:
        size = sum(map(len, chunks))
        if source.format == "parquet":
            pieces = tuple(_parquet_pieces(source, data, split_bytes))
        elif source.format == "arrow":
            pieces = tuple(_arrow_pieces(source, data, size, split_bytes))
        else:
            pieces = (Piece(source, 0, size, 0, size),)
    if stamp(source.path) != before:
        raise CorpusError(f"input {source.path!r} changed while it was read; run again when it is complete")
    return Survey(source, digest.hexdigest(), sum(piece.num_bytes for piece in pieces), before, pieces)


def _line_pieces(source: Source, chunks: Iterator[bytes], split_bytes: int, quoted: bool) -> Iterator[Piece]:
    """Cut after the first line end at or past each `split_bytes`; in CSV a quoted line end is none."""
    start = position = first_row = rows = quotes = 0
    for chunk in chunks:
        done = 0
        while position + len(chunk) - done >= start + split_bytes:
            line_end = chunk.find(b"\n", max(done, start + split_bytes - 1 - (position - done)))
            if quoted:
                line_end = _unquoted_line_end(chunk, done, line_end, quotes)
            if line_end < 0:
                break
            part = chunk[done : line_end + 1]
            position += len(part)
            rows += part.count(b"\n")
            quotes += part.count(b'"') if quoted else 0
            done = line_end + 1
            yield Piece(source, start, position, first_row, position - start)
            start, first_row = position, rows
        rest = chunk[done:]
        position += len(rest)
        rows += rest.count(b"\n")
        quotes += rest.count(b'"') if quoted else 0
    if position > start:
        yield Piece(source, start, position, first_row, position - start)


def _unquoted_line_end(chunk: bytes, done: int, line_end: int, quotes: int) -> int:
    counted = done
    while line_end >= 0:
        quotes += chunk.count(b'"', counted, line_end)
        if quotes % 2 == 0:
            return line_end
        counted, line_end = line_end, chunk.find(b"\n", line_end + 1)
    return -1


def _grouped(source: Source, sizes: list[tuple[int, int]], split_bytes: int) -> Iterator[Piece]:
    """Pieces of neighbouring groups, given each group's (rows, bytes)."""
    start = row = rows = size = 0
    for index, (group_rows, group_bytes) in enumerate(sizes):
        rows, size = rows + group_rows, size + group_bytes
        if size >= split_bytes or index == len(sizes) - 1:
            yield Piece(source, start, index + 1, row, size)
            start, row, rows, size = index + 1, row + rows, 0, 0


def _check_columns(source: Source, names: list[str], data: DataConfig) -> None:
    if data.text_field not in names:
        raise CorpusError(
            f"input {source.path!r} has no column {data.text_field!r}; it has {', '.join(map(repr, names))}: "
            f"name the one with the text in data.text_field"
        )


def _parquet_pieces(source: Source, data: DataConfig, split_bytes: int) -> Iterator[Piece]:
    with open_binary(source.path) as file:
        try:
            metadata = pq.ParquetFile(file).metadata
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(f"input {source.path!r} is no whole Parquet file: {error}") from error
    _check_columns(source, metadata.schema.to_arrow_schema().names, data)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    yield from _grouped(source, [(group.num_rows, group.total_byte_size) for group in groups], split_bytes)


def _arrow_pieces(source: Source, data: DataConfig, size: int, split_bytes: int) -> Iterator[Piece]:
    with open_binary(source.path) as file:
        try:
            rows, names = _arrow_batch_rows(file)
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(f"input {source.path!r} is no whole Arrow file: {error}") from error
    _check_columns(source, names, data)
    total = max(1, sum(rows))
    yield from _grouped(source, [(count, size * count // total) for count in rows], split_bytes)


def _arrow_batch_rows(file: object) -> tuple[list[int], list[str]]:
    """Rows of each record batch, in the file format or the streaming one."""
    try:
        reader = pa.ipc.open_file(file)
        return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)], reader.schema.names
    except pa.ArrowInvalid:
        file.seek(0)  # type: ignore[attr-defined]
        stream = pa.ipc.open_stream(file)
        return [batch.num_rows for batch in stream], stream.schema.names


def _survey_dataset(source: Source, data: DataConfig, split_bytes: int) -> Survey:
    from pipeline.corpus.readers import load_dataset

    dataset = load_dataset(source)
    _check_columns(source, dataset.column_names, data)
    size = dataset.size_in_bytes or dataset.data.nbytes
    rows = max(1, min(len(dataset), len(dataset) * split_bytes // max(1, size)))
    pieces = tuple(
        Piece(source, row, min(row + rows, len(dataset)), row, size * rows // max(1, len(dataset)))
        for row in range(0, len(dataset), rows)
    )
    identity = json.dumps([source.path, dataset._fingerprint, len(dataset)])
    return Survey(source, hashlib.sha256(identity.encode()).hexdigest(), size, "", pieces)
