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
from pipeline.corpus.encodings import UTF8, other_encoding, transcoded
from pipeline.corpus.formats.columns import check_columns
from pipeline.corpus.formats.csv_records import Records, csv_grammar
from pipeline.corpus.formats.data_sets import load_dataset
from pipeline.corpus.formats.lines import count_lines, line_blocks
from pipeline.corpus.sources import DATASETS_PREFIX, Source
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


def survey_all(sources: Sequence[Source], data: DataConfig, work_unit_bytes: int) -> list[Survey]:
    """`survey` of each source, several at a time: reading, hashing and inflating run outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: survey(source, data, work_unit_bytes), sources))


def survey(source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
    """Read the file once: digest, size, and pieces of about `work_unit_bytes` (whole documents).

    Raises `CorpusError` for a file that is missing, truncated, or without the column of the text.
    """
    if source.format == "datasets":
        return _survey_dataset(source, data, work_unit_bytes)
    before = stamp(source.path)
    digest = hashlib.sha256()
    stored = text_chunks(source.path, source.compression, on_raw=digest.update)
    pieces: tuple[Piece, ...]
    if source.format in ("parquet", "arrow"):
        size = sum(map(len, stored))
        of_table = _parquet_pieces if source.format == "parquet" else _arrow_pieces
        pieces = tuple(of_table(source, data, size, work_unit_bytes))
    else:
        chunks = transcoded(_checked_start(source, data, stored), data.encoding, source.path)
        target = min(work_unit_bytes, data.max_bytes or work_unit_bytes)
        if source.format == "jsonl":
            pieces = tuple(_line_pieces(source, chunks, target))
        elif source.format == "csv":
            pieces = tuple(_csv_pieces(source, data, chunks, target))
        else:
            size = sum(map(len, chunks))
            pieces = (Piece(source, 0, size, 0, size),)
    if stamp(source.path) != before:
        raise CorpusError(f"input {source.path!r} changed while it was read; run again when it is complete")
    return Survey(source, digest.hexdigest(), sum(piece.num_bytes for piece in pieces), before, pieces)


def _checked_start(source: Source, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks. Raises `CorpusError` for lines in another encoding, which would all be broken."""
    for index, chunk in enumerate(chunks):
        if index == 0 and source.format != "text" and data.encoding == UTF8:
            encoding = other_encoding(chunk)
            if encoding:
                raise CorpusError(
                    f"input {source.path!r} is {encoding.upper()}, as its first bytes say; set "
                    f"data.encoding={encoding}"
                )
        yield chunk


def csv_header(source: Source, data: DataConfig) -> list[str]:
    """The cells of the first record that is not empty; none where there is no such. Raises `CorpusError`."""
    grammar = csv_grammar(source.delimiter)
    chunks = transcoded(text_chunks(source.path, source.compression), data.encoding, source.path)
    for part in grammar.split(line_blocks(chunks), None, data.max_document_bytes):
        if not isinstance(part, Records):
            raise CorpusError(
                f"input {source.path!r}: its header cannot be read: {part.detail or 'too large'}"
            )
        for _, cells in grammar.cells(part.content):
            if cells:
                return cells
    return []


def _line_pieces(source: Source, chunks: Iterator[bytes], work_unit_bytes: int) -> Iterator[Piece]:
    """Cut after the first line end at or past each `work_unit_bytes`."""
    start = position = first_row = rows = 0
    for chunk in chunks:
        done = 0
        while position + len(chunk) - done >= start + work_unit_bytes:
            line_end = chunk.find(b"\n", max(done, start + work_unit_bytes - 1 - (position - done)))
            if line_end < 0:
                break
            part = chunk[done : line_end + 1]
            position += len(part)
            rows += part.count(b"\n")
            done = line_end + 1
            yield Piece(source, start, position, first_row, position - start)
            start, first_row = position, rows
        rest = chunk[done:]
        position += len(rest)
        rows += rest.count(b"\n")
    if position > start:
        yield Piece(source, start, position, first_row, position - start)


def _csv_pieces(
    source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
) -> Iterator[Piece]:
    """Cut after the first record at or past each `work_unit_bytes` behind which reading may start anew."""
    header = csv_header(source, data)
    check_columns(source.path, header, data)
    grammar = csv_grammar(source.delimiter)
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            yield chunk

    start = position = first_row = rows = 0
    for part in grammar.split(line_blocks(counted()), len(header), data.max_document_bytes):
        content = part.content if isinstance(part, Records) else b""
        while content and part.is_settled and position + len(content) >= start + work_unit_bytes:
            end = grammar.record_end(content, max(1, start + work_unit_bytes - position))
            position += end
            rows += count_lines(content[:end])
            yield Piece(source, start, min(position, size), first_row, min(position, size) - start)
            start, first_row, content = position, rows, content[end:]
        if isinstance(part, Records):
            position += len(content)
            rows += count_lines(content)
            continue
        position += part.num_bytes
        rows += part.num_lines
        if part.is_settled and position >= start + work_unit_bytes:
            yield Piece(source, start, min(position, size), first_row, min(position, size) - start)
            start, first_row = position, rows
    if min(position, size) > start:  # the last line may have been given its end
        yield Piece(source, start, min(position, size), first_row, min(position, size) - start)


def _grouped(source: Source, sizes: list[tuple[int, int]], work_unit_bytes: int) -> Iterator[Piece]:
    """Pieces of neighbouring groups, given each group's (rows, bytes)."""
    start = row = rows = size = 0
    for index, (group_rows, group_bytes) in enumerate(sizes):
        rows, size = rows + group_rows, size + group_bytes
        if size >= work_unit_bytes or index == len(sizes) - 1:
            yield Piece(source, start, index + 1, row, size)
            start, row, rows, size = index + 1, row + rows, 0, 0


def _parquet_pieces(source: Source, data: DataConfig, _: int, work_unit_bytes: int) -> Iterator[Piece]:
    with open_binary(source.path) as file:
        try:
            parquet = pq.ParquetFile(file)
            metadata, schema = parquet.metadata, parquet.schema_arrow
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise CorpusError(
                f"input {source.path!r} is no whole Parquet file: {error}; fetch or make it again"
            ) from error
    check_columns(source.path, schema.names, data, schema)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    yield from _grouped(
        source, [(group.num_rows, group.total_byte_size) for group in groups], work_unit_bytes
    )


def _arrow_pieces(source: Source, data: DataConfig, size: int, work_unit_bytes: int) -> Iterator[Piece]:
    with open_binary(source.path) as file:
        try:
            rows, schema = _arrow_batch_rows(file)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise CorpusError(
                f"input {source.path!r} is no whole Arrow file: {error}; fetch or make it again"
            ) from error
    check_columns(source.path, schema.names, data, schema)
    total = max(1, sum(rows))
    yield from _grouped(source, [(count, size * count // total) for count in rows], work_unit_bytes)


def _arrow_batch_rows(file: object) -> tuple[list[int], pa.Schema]:
    """Rows of each record batch, in the file format or the streaming one."""
    try:
        reader = pa.ipc.open_file(file)
        return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)], reader.schema
    except pa.ArrowInvalid:
        file.seek(0)  # type: ignore[attr-defined]
        stream = pa.ipc.open_stream(file)
        return [batch.num_rows for batch in stream], stream.schema


def _survey_dataset(source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
    dataset = load_dataset(source)
    check_columns(source.path, dataset.column_names, data, dataset.features.arrow_schema)
    size = dataset.size_in_bytes or dataset.data.nbytes
    rows = max(1, min(len(dataset), len(dataset) * work_unit_bytes // max(1, size)))
    pieces = tuple(
        Piece(source, row, min(row + rows, len(dataset)), row, size * rows // max(1, len(dataset)))
        for row in range(0, len(dataset), rows)
    )
    identity = json.dumps([source.name.removeprefix(DATASETS_PREFIX), dataset._fingerprint, len(dataset)])
    return Survey(source, hashlib.sha256(identity.encode()).hexdigest(), size, "", pieces)
