"""JSON lines: one JSON object per line, which is a document. A file is cut between lines."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.fields import json_value, repeated_key, shortly
from pipeline.corpus.formats.format import CorpusFormat, FileStart, Resemblance
from pipeline.corpus.formats.json_layout import (
    LAYOUT_NAMES,
    array_in_object,
    array_remedy,
    complete_lines,
    documents_within,
    has_text,
    json_layout,
    layout_remedy,
    share_of_objects,
    without_separators,
)
from pipeline.corpus.formats.lines import (
    RECORD_SEPARATOR,
    bad_byte,
    decoded,
    lines,
    without_byte_order_marks,
)
from pipeline.corpus.source import Piece, Source
from pipeline.errors import CorpusError


class JsonLines(CorpusFormat):
    """See the module."""

    name = "jsonl"
    title = "JSON lines"
    suffixes = frozenset(("jsonl", "ndjson", "json"))

    def objection(self, start: FileStart) -> str | None:
        """See `CorpusFormat`. Raises `CorpusError` for JSON that is not one document per line."""
        text = without_separators(start.text)
        layout = json_layout(text, start.is_whole)
        if layout in LAYOUT_NAMES:
            other = "" if start.is_given else ", or set data.format=text to read it as one document"
            raise CorpusError(
                f"input {start.path!r} is {LAYOUT_NAMES[layout]}, not one document per line; "
                f"{layout_remedy(start.path, layout)}{other}"
            )
        is_one_line = start.is_whole and layout == "lines"
        array = array_in_object(text, start.data.text_field) if is_one_line else None
        if array is not None:
            raise CorpusError(
                f"input {start.path!r} is one JSON object with its documents in the array {'.'.join(array)!r}, not one "
                f"document per line; {array_remedy(start.path, array)}"
            )
        written = [line for line in complete_lines(text, start.is_whole) if line.strip()]
        if len(written) > 1 and not any(line.lstrip()[0] in '{["' for line in written):
            return "no line begins a JSON object"
        return None

    def resemblance(self, start: FileStart) -> Resemblance | None:
        """See `CorpusFormat`."""
        text = without_separators(start.text)
        layout = json_layout(text, start.is_whole)
        is_unnamed = not start.suffix
        if layout == "none" and is_unnamed and '{"' in text and share_of_objects(text, start.is_whole) > 0.5:
            layout = "unsure"
        if layout == "none":
            return None
        what, remedy = LAYOUT_NAMES.get(layout, self.title), layout_remedy(start.path, layout)
        return Resemblance(what, remedy, layout == "lines", has_text(text, start.data.text_field))

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """See `CorpusFormat`. A piece ends with the first line end at or after `work_unit_bytes`."""
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

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        make = DocumentMaker(piece.source, data)
        limit = data.max_document_bytes
        for number, (line, size) in enumerate(lines(chunks, limit), piece.first_row + 1):
            position = f"line {number}"
            if line is None:
                yield make.too_large(position, size)
                continue
            line = without_byte_order_marks(line).removeprefix(RECORD_SEPARATOR)
            if not line or line.isspace():
                continue
            text = decoded(line)
            if not isinstance(text, str):
                yield make.rejection(position, make.not_text, bad_byte(text))
                continue
            try:
                row = json_value(text)
            except ValueError as error:
                yield make.rejection(position, "broken JSON", str(error))
                continue
            if isinstance(row, dict):
                yield _of_object(row, position, number, make, piece.source, data)
            else:
                kind = (
                    "an array"
                    if isinstance(row, list)
                    else "a string"
                    if isinstance(row, str)
                    else "a bare value"
                )
                detail = f"it is {kind}; write {{{json.dumps(data.text_field)}: ...}}"
                yield make.rejection(position, "not a JSON object", detail)


def _of_object(
    row: dict[str, Any], position: str, number: int, make: DocumentMaker, source: Source, data: DataConfig
) -> Document | Rejection:
    repeated = repeated_key(row, data.text_field) or repeated_key(row, data.id_field)
    if repeated is not None:
        detail = f"{shortly(repeated)} is twice in one object; remove one of them"
        return make.rejection(position, "duplicate key", detail)
    made = make.from_row(position, number, row)
    if isinstance(made, Rejection) and made.reason == make.no_field:
        within = documents_within(row, data.text_field)
        if within is not None:
            keys, count = within
            detail = f"it holds {count} documents in an array; {array_remedy(source.path, keys)}"
            return replace(made, reason="documents in one object", detail=detail, num_lines=count)
    return made
