"""From a split to its documents, one after the other; what is no document is set aside with its reason."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import DataConfig
from pipeline.corpus.encodings import UTF8, other_encoding
from pipeline.corpus.file_names import local_path
from pipeline.corpus.formats.columns import check_columns, column_path, column_values
from pipeline.corpus.formats.csv_records import Records, csv_grammar
from pipeline.corpus.formats.data_sets import load_dataset
from pipeline.corpus.formats.fields import MISSING, field_value, json_value, repeated_key, shortly
from pipeline.corpus.formats.json_shape import array_remedy, documents_within
from pipeline.corpus.formats.lines import (
    BYTE_ORDER_MARK,
    NOT_UTF8,
    RECORD_SEPARATOR,
    bad_byte,
    decoded,
    line_blocks,
    lines,
    without_marks,
)
from pipeline.corpus.sources import Source
from pipeline.corpus.streams import RangeReader, is_url, open_binary, stamp
from pipeline.corpus.survey import Piece, csv_header
from pipeline.corpus.work_units import WorkUnit, id_hash, made_id
from pipeline.errors import CorpusError
from segmenters.conllu import read_conllu

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
    hashed: int
    """64-bit hash of its own id, or of its text where it has none: says whether it goes to the dev split."""
    has_own_id: bool
    """Or one that was made for it, which may repeat: a copy of a file is not dropped unasked."""


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
    num_lines: int = 1
    """Lines (rows, of a table) that are lost with it."""


class WorkUnitReader:
    """Reads splits; of a compressed file it keeps the place, so the next split need not start over."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._ranges: RangeReader | None = None

    def read(self, split: WorkUnit) -> Iterator[Document | Rejection]:
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
            self._ranges = RangeReader(source.path, source.compression, self._data.encoding)
        return self._ranges.chunks(piece.start, piece.end)

    def _read_text(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        if piece.num_bytes > self._data.max_document_bytes:
            yield self._too_large(source, "line 1", piece.num_bytes)
            return
        data = without_marks(b"".join(self._chunks(piece)))
        text = decoded(data.replace(b"\n" + BYTE_ORDER_MARK, b"\n"))
        if isinstance(text, str):
            yield self._checked(source, "line 1", 1, None, text)
        else:
            line = 1 + data.count(b"\n", 0, text.start)
            encoding = other_encoding(data) if self._data.encoding == UTF8 else None
            detail = (
                f"it begins as {encoding.upper()}: data.encoding={encoding}" if encoding else bad_byte(text)
            )
            yield Rejection(source.shown_name, f"line {line}", self._not_text, detail)

    def _read_conllu(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        content = lines(self._chunks(piece), limit=2**62)
        texts = (without_marks(line or b"").decode(errors="surrogateescape") for line, _ in content)
        for found in read_conllu(texts):
            position = f"line {found.line}"
            if found.broken_line is not None:
                detail = f"line {found.broken_line} is neither a comment nor ten columns behind a number"
                yield Rejection(
                    source.shown_name,
                    position,
                    "broken CoNLL-U",
                    detail,
                    found.doc_id,
                    num_lines=found.num_lines,
                )
            elif found.ends or found.doc_id is not None:
                yield self._checked(source, position, found.line, found.doc_id, found.text)

    def _read_jsonl(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        limit = self._data.max_document_bytes
        for number, (line, size) in enumerate(lines(self._chunks(piece), limit), piece.first_row + 1):
            position = f"line {number}"
            if line is None:
                yield self._too_large(source, position, size)
                continue
            line = without_marks(line).removeprefix(RECORD_SEPARATOR)
            if not line or line.isspace():
                continue
            text = decoded(line)
            if not isinstance(text, str):
                yield Rejection(source.shown_name, position, self._not_text, bad_byte(text))
                continue
            try:
                row = json_value(text)
            except ValueError as error:
                yield Rejection(source.shown_name, position, "broken JSON", str(error))
                continue
            if not isinstance(row, dict):
                kind = (
                    "an array"
                    if isinstance(row, list)
                    else "a string"
                    if isinstance(row, str)
                    else "a bare value"
                )
                detail = f"it is {kind}; write {{{json.dumps(self._data.text_field)}: ...}}"
                yield Rejection(source.shown_name, position, "not a JSON object", detail)
                continue
            repeated = repeated_key(row, self._data.text_field) or repeated_key(row, self._data.id_field)
            if repeated is not None:
                detail = f"{shortly(repeated)} stands twice in one object; remove one of them"
                yield Rejection(source.shown_name, position, "duplicate key", detail)
                continue
            yield self._from_row(source, position, number, row)

    def _read_csv(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        header = csv_header(source, self._data)
        check_columns(source.path, header, self._data)
        grammar = csv_grammar(source.delimiter)
        first = piece.first_row + 1
        is_header_read = piece.start > 0
        blocks = line_blocks(self._chunks(piece))
        for part in grammar.split(blocks, len(header), self._data.max_document_bytes):
            if not isinstance(part, Records):
                position = f"line {first}"
                if part.is_too_large:
                    yield self._too_large(source, position, part.num_bytes, part.num_lines)
                else:
                    yield Rejection(
                        source.shown_name, position, "broken CSV", part.detail, num_lines=part.num_lines
                    )
                first += part.num_lines
                continue
            for line, cells in grammar.cells(part.content):
                position = f"line {first + line}"
                if not cells:
                    continue
                if cells == header:
                    if is_header_read:
                        yield Rejection(
                            source.shown_name, position, "header again", "as of files joined by cat"
                        )
                    is_header_read = True
                elif len(cells) != len(header):
                    detail = f"{len(cells)} cells, but the header has {len(header)}"
                    yield Rejection(source.shown_name, position, "broken CSV", detail)
                else:
                    yield self._from_row(
                        source, position, first + line, dict(zip(header, cells, strict=True))
                    )
            first += part.num_lines

    def _read_parquet(self, piece: Piece) -> Iterator[Document | Rejection]:
        with open_binary(piece.source.path) as file:
            parquet = pq.ParquetFile(file)
            paths = [column_path(parquet.schema_arrow, field) for field in self._fields]
            columns = [".".join(path) for path in paths if path]
            groups = list(range(piece.start, piece.end))
            batches = parquet.iter_batches(
                ROWS_AT_ONCE, row_groups=groups, columns=columns, use_threads=False
            )
            yield from self._from_batches(piece, batches)

    def _read_arrow(self, piece: Piece) -> Iterator[Document | Rejection]:
        source = piece.source
        with (
            open_binary(source.path)
            if is_url(source.path)
            else pa.memory_map(os.fsencode(local_path(source.path))) as file
        ):
            try:
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(piece.start, piece.end))
            except pa.ArrowInvalid:
                file.seek(0)
                stream = pa.ipc.open_stream(file)
                batches = (batch for i, batch in enumerate(stream) if piece.start <= i < piece.end)
            slices = (
                batch.slice(row, ROWS_AT_ONCE)
                for batch in batches
                for row in range(0, batch.num_rows, ROWS_AT_ONCE)
            )
            yield from self._from_batches(piece, slices)

    def _read_datasets(self, piece: Piece) -> Iterator[Document | Rejection]:
        dataset = load_dataset(piece.source)
        heads = {
            path[0] for field in self._fields if (path := column_path(dataset.features.arrow_schema, field))
        }
        dataset = dataset.select_columns(sorted(heads))
        for row in range(piece.start, piece.end):
            try:
                values = dataset[row]
            except (ValueError, ArithmeticError, RecursionError) as error:
                yield Rejection(
                    piece.source.shown_name, f"row {row}", "unreadable value", shortly(str(error))
                )
                continue
            yield self._from_row(piece.source, f"row {row}", row, values)

    @property
    def _fields(self) -> list[str]:
        return list(dict.fromkeys((self._data.text_field, self._data.id_field)))

    def _from_batches(self, piece: Piece, batches: Iterable[Any]) -> Iterator[Document | Rejection]:
        source, row = piece.source, piece.first_row
        try:
            for batch in batches:
                columns = {field: column_values(source.path, batch, field) for field in self._fields}
                present = {field: values for field, values in columns.items() if values is not None}
                for index in range(batch.num_rows):
                    fields = {field: values[index] for field, values in present.items()}
                    yield self._from_row(source, f"row {row}", row, fields)
                    row += 1
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise CorpusError(
                f"input {source.path!r} is damaged behind row {row}: {error}; fetch or make it again"
            ) from error

    def _from_row(
        self, source: Source, position: str, row: int, values: dict[str, Any]
    ) -> Document | Rejection:
        field, file = self._data.text_field, source.shown_name
        own_id = field_value(values, self._data.id_field)
        if isinstance(own_id, int) and not isinstance(own_id, bool):
            own_id = str(own_id)
        if own_id is MISSING or own_id is None or own_id == "":
            own_id = None
        elif isinstance(own_id, UnicodeDecodeError):
            return Rejection(file, position, self._not_text, f"id: {bad_byte(own_id)}")
        elif not isinstance(own_id, str):
            detail = (
                f"{shortly(own_id)} is neither a string nor an integer; name another field in data.id_field"
            )
            return Rejection(file, position, "bad id", f"{detail} (ids are made where no document has it)")
        text = field_value(values, field)
        if text is MISSING:
            if source.format == "jsonl" and (wrapped := documents_within(values, field)):
                path, count = wrapped
                detail = f"it holds {count} documents in an array; {array_remedy(source.path, path)}"
                return Rejection(file, position, "documents in one object", detail, own_id, num_lines=count)
            names = ", ".join(map(shortly, list(values)[:8])) or "none"
            return Rejection(file, position, f"no field {field!r}", f"its fields: {names}", own_id)
        if isinstance(text, UnicodeDecodeError):
            return Rejection(file, position, self._not_text, bad_byte(text), own_id)
        if isinstance(text, Exception):
            return Rejection(file, position, "unreadable value", shortly(str(text)), own_id)
        if not isinstance(text, str):
            kind = "null" if text is None else type(text).__name__
            return Rejection(file, position, f"no text in field {field!r}", f"it holds {kind}", own_id)
        return self._checked(source, position, row, own_id, text)

    def _checked(
        self, source: Source, position: str, row: int, own_id: str | None, text: str
    ) -> Document | Rejection:
        file = source.shown_name
        try:
            encoded = text.encode()
            hashed = 0 if own_id is None else id_hash(own_id)
        except UnicodeEncodeError as error:
            shown = None if own_id is None else own_id.encode(errors="replace").decode()
            surrogate = ord(error.object[error.start])
            if source.format in ("csv", "conllu"):
                detail = f"byte 0x{surrogate & 0xFF:02x} at character {error.start}"
                return Rejection(file, position, self._not_text, detail, shown)
            detail = f"U+{surrogate:04X} at character {error.start}"
            return Rejection(file, position, "lone surrogate", detail, shown)
        if not text or text.isspace():
            return Rejection(file, position, "empty", "nothing, or nothing but white space", own_id)
        if len(encoded) > self._data.max_document_bytes:
            return self._too_large(source, position, len(encoded))
        doc_id = own_id
        if doc_id is None:
            doc_id, hashed = made_id(source.name, row, encoded)
        return Document(doc_id, text, len(encoded), file, position, source.is_dev, hashed, own_id is not None)

    @property
    def _not_text(self) -> str:
        return NOT_UTF8 if self._data.encoding == UTF8 else f"not {self._data.encoding}"

    def _too_large(self, source: Source, position: str, size: int, num_lines: int = 1) -> Rejection:
        detail = f"{size} bytes; data.max_document_bytes is {self._data.max_document_bytes}"
        return Rejection(source.shown_name, position, "too large", detail, num_lines=num_lines)
