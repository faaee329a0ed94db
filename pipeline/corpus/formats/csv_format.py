"""CSV with any delimiter: a header, then one document per row. A file is cut between records (`csv_records`)."""

import csv
import io
from collections.abc import Iterator

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.columnar.columns import check_columns
from pipeline.corpus.formats.csv_records import Records, csv_grammar
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.format import CorpusFormat, FileStart, Layout, Resemblance
from pipeline.corpus.formats.lines import count_lines, line_blocks
from pipeline.corpus.opening.encodings import transcoded
from pipeline.corpus.opening.streams import text_chunks
from pipeline.corpus.source import Piece, Source
from pipeline.errors import CorpusError

_DELIMITERS = {"csv": ",", "tsv": "\t", "tab": "\t", "psv": "|"}
"""Delimiters by the suffix of the file name."""


class Csv(CorpusFormat):
    """See the module. The dialect of a source is its delimiter."""

    name = "csv"
    title = "CSV"
    suffixes = frozenset(_DELIMITERS)

    def resemblance(self, start: FileStart) -> Resemblance | None:
        """See `CorpusFormat`."""
        field = start.data.text_field
        if not _looks_like_csv(start.text, field):
            return None
        return Resemblance(f"CSV with a column {field!r}", "set data.format=csv")

    def layout(self, start: FileStart) -> Layout:
        """See `CorpusFormat`. Raises `CorpusError` where the header has another delimiter than the name implies."""
        delimiter = _delimiter(start)
        text = start.text.strip()
        is_one_line = start.is_whole and len(text.splitlines()) == 1
        is_header = is_one_line and start.data.text_field in next(iter(_rows(text, delimiter, 1)), [])
        return Layout(delimiter, not is_header)

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """See `CorpusFormat`. A piece ends with a record after which reading can start."""
        header = _header(source, data)
        check_columns(source.path, header, data)
        grammar = csv_grammar(source.dialect)
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        start = position = first_row = rows = 0
        blocks = line_blocks(counted(), source.path, data.max_document_bytes)
        for part in grammar.split(blocks, len(header), data.max_document_bytes):
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
        if min(position, size) > start:  # the last line may have got its line end here
            yield Piece(source, start, min(position, size), first_row, min(position, size) - start)

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        source = piece.source
        header = _header(source, data)
        check_columns(source.path, header, data)
        make = DocumentMaker(source, data, surrogates_are_bytes=True)
        grammar = csv_grammar(source.dialect)
        first = piece.first_row + 1
        is_header_read = piece.start > 0
        blocks = line_blocks(chunks, source.path, data.max_document_bytes)
        for part in grammar.split(blocks, len(header), data.max_document_bytes):
            if not isinstance(part, Records):
                position = f"line {first}"
                if part.is_too_large:
                    yield make.too_large(position, part.num_bytes, part.num_lines)
                else:
                    yield make.rejection(position, "broken CSV", part.detail, num_lines=part.num_lines)
                first += part.num_lines
                continue
            for line, cells in grammar.cells(part.content):
                position = f"line {first + line}"
                if not cells:
                    continue
                if cells == header:
                    if is_header_read:
                        yield make.rejection(position, "header again", "as of files joined by cat")
                    is_header_read = True
                elif len(cells) != len(header):
                    detail = f"{len(cells)} cells, but the header has {len(header)}"
                    yield make.rejection(position, "broken CSV", detail)
                else:
                    yield make.from_row(position, first + line, dict(zip(header, cells, strict=True)))
            first += part.num_lines


def _header(source: Source, data: DataConfig) -> list[str]:
    """The cells of the first record that is not empty; none where all are empty. Raises `CorpusError`."""
    grammar = csv_grammar(source.dialect)
    chunks = transcoded(text_chunks(source.path, source.compression), data.encoding, source.path)
    blocks = line_blocks(chunks, source.path, data.max_document_bytes)
    for part in grammar.split(blocks, None, data.max_document_bytes):
        if not isinstance(part, Records):
            raise CorpusError(
                f"input {source.path!r}: its header cannot be read: {part.detail or 'too large'}"
            )
        for _, cells in grammar.cells(part.content):
            if cells:
                return cells
    return []


def _rows(text: str, delimiter: str, count: int) -> list[list[str]]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [row for _, row in zip(range(count), reader, strict=False)]
    except csv.Error:
        return []


def _delimiter(start: FileStart) -> str:
    """`data.delimiter`, or the delimiter that the name implies. Raises `CorpusError` where the header has another
    one."""
    field, text = start.data.text_field, start.text
    if start.data.delimiter is not None:
        return start.data.delimiter
    named = _DELIMITERS.get(start.suffix, ",")
    cells = {one: next(iter(_rows(text, one, 1)), []) for one in (named, *",\t;|")}
    if field in cells[named]:
        return named
    if text.startswith("sep=") and len(text.splitlines()[0]) == 5:
        raise CorpusError(
            f"input {start.path!r} begins with a line {text[:5]!r} for Excel; remove that line and set "
            f"data.delimiter={text[4]!r}"
        )
    for other, row in cells.items():
        if field in row or (len(row) > 1 and len(cells[named]) == 1):
            raise CorpusError(
                f"input {start.path!r} has no column {field!r} with {named!r} between its cells, but its "
                f"header has {', '.join(map(repr, row[:10]))} with {other!r}; set data.delimiter={other!r}"
                + ("" if field in row else ", and data.text_field to the column with the text")
            )
    return named


def _looks_like_csv(text: str, field: str) -> bool:
    first = text.split("\n", 1)[0]
    if field not in first:
        return False
    for delimiter in ",;\t|":
        rows = _rows(text, delimiter, 3)
        if (
            len(rows) > 1
            and field in rows[0]
            and len(rows[0]) > 1
            and all(0 < len(cell) < 64 for cell in rows[0])
            and len(rows[1]) == len(rows[0])
        ):
            return True
    return False
