"""From a split to its documents, one after the other; what is no document is set aside with its reason."""

import csv
import functools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import DataConfig
from pipeline.corpus.file_names import local_path
from pipeline.corpus.lines import BYTE_ORDER_MARK, NOT_UTF8, bad_byte, csv_lines, decoded, lines
from pipeline.corpus.sources import Source
from pipeline.corpus.splits import Split
from pipeline.corpus.streams import RangeReader, is_url, open_binary, stamp
from pipeline.corpus.survey import Piece
from pipeline.errors import CorpusError

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Document:
    """One text of the corpus, not empty and free of lone surrogates."""

    doc_id: str
    text: str
    num_bytes: int
    """UTF-8 bytes of the text."""
    file: str
    position: str
    """Where in the file: `line 5`, `row 7`."""
    is_dev: bool
    """Whether its file is one of `data.dev_inputs`."""


@dataclass(frozen=True)
class Rejection:
    """What was set aside: where it stands and why."""

    file: str
    position: str
    reason: str
    """One of a few, to count by."""
    detail: str = ""
    doc_id: str | None = None
    is_filtered: bool = False
    """Dropped by a filter: wanted, and no fault of the document."""


class SplitReader:
    """Reads splits; of a compressed file it keeps the place, so the next split need not start over."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._ranges: RangeReader | None = None

    def read(self, split: Split) -> Iterator[Document | Rejection]:
        """Documents and rejections of the split, in the order of the files.

        Raises `CorpusError` for a file that has changed since the split was planned.
        """
        for part in split.parts:
            source = part.piece.source
            if part.stamp and stamp(source.path) != part.stamp:
                raise CorpusError(f"input {source.path!r} changed after work on it began; run again")
            reader = getattr(self, f"_read_{source.format}")
            yield from reader(part.piece)
            if part.stamp and stamp(source.path) != part.stamp:
                raise CorpusError(f"input {source.path!r} changed while it was read; run again")

    def _chunks(self, piece: Piece) -> Iterator[bytes]:
        source = piece.source
        if self._ranges is None or self._ranges.path != source.path:
            self._ranges = RangeReader(source.path, source.compression)
        return self._ranges.chunks(piece.start, piece.end)

    def _read_text(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        if piece.num_bytes > self._data.max_document_bytes:
            yield self._too_large(source, "line 1", piece.num_bytes)
            return
        data = b"".join(self._chunks(piece)).removeprefix(BYTE_ORDER_MARK)
        text = decoded(data)
        if isinstance(text, str):
            yield self._checked(source, "line 1", source.name, text)
        else:
            line = 1 + data.count(b"\n", 0, text.start)
            yield Rejection(source.name, f"line {line}", NOT_UTF8, bad_byte(text))

    def _read_jsonl(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        limit = self._data.max_document_bytes
        for number, (line, size) in enumerate(lines(self._chunks(piece), limit), piece.first_row + 1):
            position = f"line {number}"
            if line is None:
                yield self._too_large(source, position, size)
                continue
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if not line or line.isspace():
                continue
            text = decoded(line)
            if not isinstance(text, str):
                yield Rejection(source.name, position, NOT_UTF8, bad_byte(text))
                continue
            try:
                row = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                yield Rejection(source.name, position, "broken JSON", str(error))
                continue
            if not isinstance(row, dict):
                yield Rejection(source.name, position, "not a JSON object")
                continue
            yield self._from_row(source, position, f"{source.name}#{number}", row)

    def _read_csv(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        header = self._csv_header(piece)
        if self._data.text_field not in header:
            raise CorpusError(
                f"input {source.path!r} has no column {self._data.text_field!r}; it has "
                f"{', '.join(map(repr, header))}: name the one with the text in data.text_field"
            )
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(csv_lines(lines(self._chunks(piece), limit=2**62), piece.start == 0), strict=True)
        while True:
            first = piece.first_row + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejection(source.name, f"line {first}", "broken CSV", str(error))
                continue
            if first == 1 or not cells:
                continue
            if len(cells) != len(header):
                detail = f"{len(cells)} cells, but the header has {len(header)}"
                yield Rejection(source.name, f"line {first}", "broken CSV", detail)
                continue
            row = dict(zip(header, cells, strict=True))
            yield self._from_row(source, f"line {first}", f"{source.name}#{first}", row)

    def _csv_header(self, piece: Piece) -> list[str]:
        start = RangeReader(piece.source.path, piece.source.compression).chunks(0, 2**62)
        try:
            return next(csv.reader(csv_lines(lines(start, limit=2**62), True), strict=True), [])
        except csv.Error as error:
            raise CorpusError(f"input {piece.source.path!r}: its header cannot be read: {error}") from error

    def _read_parquet(self, piece: Piece) -> Iterator[Document | Rejection]:
        with open_binary(piece.source.path) as file:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            groups = list(range(piece.start, piece.end))
            batches = parquet.iter_batches(
                ROWS_AT_ONCE, row_groups=groups, columns=self._columns(names), use_threads=False
            )
            yield from self._from_batches(piece, batches)

    def _read_arrow(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        with open_binary(source.path) if is_url(source.path) else _memory_map(source.path) as file:
            try:
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(piece.start, piece.end))
            except pa.ArrowInvalid:
                file.seek(0)
                stream = pa.ipc.open_stream(file)
                batches = (batch for i, batch in enumerate(stream) if piece.start <= i < piece.end)
            slices = (
                batch.select(self._columns(batch.schema.names)).slice(row, ROWS_AT_ONCE)
                for batch in batches
                for row in range(0, batch.num_rows, ROWS_AT_ONCE)
            )
            yield from self._from_batches(piece, slices)

    def _read_datasets(self, piece: Piece) -> Iterator[Document | Rejection]:
        dataset = load_dataset(piece.source)
        columns = self._columns(dataset.column_names)
        for row in range(piece.start, piece.end):
            values = dataset[row]
            yield self._from_row(
                piece.source,
                f"row {row}",
                f"{piece.source.name}#{row}",
                {key: values[key] for key in columns},
            )

    def _columns(self, names: list[str]) -> list[str]:
        return [name for name in (self._data.text_field, self._data.id_field) if name in names]

    def _from_batches(self, piece: Piece, batches: Iterable[Any]) -> Iterator[Document | Rejection]:
        source, row = piece.source, piece.first_row
        for batch in batches:
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                fields = dict(zip(batch.schema.names, values, strict=True))
                yield self._from_row(source, f"row {row}", f"{source.name}#{row}", fields)
                row += 1

    def _from_row(
        self, source: Source, position: str, default_id: str, row: dict[str, Any]
    ) -> Document | Rejection:
        field = self._data.text_field
        given = row.get(self._data.id_field)
        doc_id = default_id if given is None else given
        if isinstance(doc_id, int) and not isinstance(doc_id, bool):
            doc_id = str(doc_id)
        if not isinstance(doc_id, str):
            detail = f"neither a string nor an integer: {str(given)[:80]!a}"
            return Rejection(source.name, position, "bad id", detail)
        if field not in row:
            fields = ", ".join(map(repr, list(row)[:8])) or "none"
            return Rejection(source.name, position, f"no field {field!r}", f"its fields: {fields}", doc_id)
        text = row[field]
        if isinstance(text, UnicodeDecodeError):
            return Rejection(source.name, position, NOT_UTF8, bad_byte(text), doc_id)
        if not isinstance(text, str):
            kind = "null" if text is None else type(text).__name__
            return Rejection(source.name, position, f"no text in field {field!r}", f"it holds {kind}", doc_id)
        return self._checked(source, position, doc_id, text)

    def _checked(self, source: Source, position: str, doc_id: str, text: str) -> Document | Rejection:
        try:
            num_bytes = len(text) if text.isascii() else len(text.encode())
            doc_id.encode()
        except UnicodeEncodeError as error:
            shown = doc_id.encode(errors="replace").decode()
            surrogate = ord(error.object[error.start])
            if source.format == "csv":
                detail = f"byte 0x{surrogate & 0xFF:02x} at character {error.start}"
                return Rejection(source.name, position, NOT_UTF8, detail, shown)
            detail = f"U+{surrogate:04X} at character {error.start}"
            return Rejection(source.name, position, "lone surrogate", detail, shown)
        if not text or text.isspace():
            return Rejection(source.name, position, "empty", "nothing, or nothing but white space", doc_id)
        if num_bytes > self._data.max_document_bytes:
            return self._too_large(source, position, num_bytes)
        return Document(doc_id, text, num_bytes, source.name, position, source.is_dev)

    def _too_large(self, source: Source, position: str, size: int) -> Rejection:
        limit = self._data.max_document_bytes
        return Rejection(
            source.name, position, "too large", f"{size} bytes; data.max_document_bytes is {limit}"
        )


@functools.lru_cache(maxsize=4)
def load_dataset(source: Source) -> Any:
    """The `datasets.Dataset` of `datasets:NAME_OR_FOLDER[:SPLIT]` (split `train` where none is named).

    Raises `CorpusError` where there is no such data set or split.
    """
    import datasets

    name, _, split = source.path.partition(":")
    try:
        if (Path(name) / "dataset_info.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return loaded[split or "train"] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CorpusError(f"input {source.name!r} cannot be loaded: {reason}") from error


def _memory_map(path: str) -> pa.MemoryMappedFile:
    return pa.memory_map(os.fsencode(local_path(path)))


def _values(column: Any) -> list[Any]:
    """Python values; a text that is no UTF-8 comes as its error."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [
            None if value is None else decoded(value) for value in column.cast(pa.large_binary()).to_pylist()
        ]
