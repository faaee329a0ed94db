"""Splitting of CSV into whole records, by the grammar of the strict mode of the `csv` module.

A quote opens a field only at the field's start; a doubled quote inside it is a quote; a closing quote is followed by a
delimiter or a line end (`\\n`, `\\r\\n` or `\\r`). The grammar is a regular expression over bytes with possessive
repeats only, so that the time is linear in the file size.

A quote that is never closed, or closed in the wrong position, makes one record of all lines up to the next quote. If
nine in ten of these lines are rows by themselves, with as many cells as the header, only the line of the quote is
broken and the others are read. Otherwise all these lines are broken.
"""

import csv
import functools
import io
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from pipeline.corpus.formats.lines import BYTE_ORDER_MARK, count_lines, without_byte_order_marks

ROWS_TO_TRUST = 8
"""Below this number, lines inside a quote may be lines of a text as well as rows."""
SHARE_OF_ROWS = 0.9
HELD_BYTES = 64 * 2**20
"""Bytes of a record that are kept at least, so that its lines can be read one by one if its quote is broken."""
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n?+|\n)")


@dataclass(frozen=True)
class Records:
    """Whole, well-formed records."""

    content: bytes
    num_lines: int
    is_settled: bool = True
    """Whether reading can start after them with the same result."""


@dataclass(frozen=True)
class Broken:
    """Lines that are not records."""

    num_bytes: int
    num_lines: int
    detail: str
    is_too_large: bool = False
    is_settled: bool = True
    """As in `Records`."""


class CsvGrammar:
    """Reader of CSV records with this delimiter, one ASCII character."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        comma = re.escape(delimiter.encode())
        quoted = rb'[^"]*+(?:""[^"]*+)*+'
        plain = rb'(?!")[^\r\n' + comma + rb"]*+"
        field = rb'(?:"' + quoted + rb'"(?=[\r\n' + comma + rb"])|" + plain + rb")"
        line_end = rb"(?:\r\n?+|\n)"
        mark = rb"(?:" + BYTE_ORDER_MARK + rb")*+"
        rest = rb"(?:" + comma + field + rb")*+" + line_end
        opened = rb"(?:" + field + comma + rb')*+"' + quoted
        self._record = re.compile(mark + field + rest)
        self._records = re.compile(rb"(?:" + mark + field + rest + rb")*+")
        self._opened = re.compile(mark + opened + rb"\Z")
        self._closed = re.compile(quoted + rb'"(?=[\r\n' + comma + rb"])" + rest)
        self._still_open = re.compile(quoted + rb'(?:"' + comma + opened + rb")?+\Z")

    def record_end(self, content: bytes, at: int) -> int:
        """End of the first record of `Records.content` that ends at or after `at`."""
        end = _end(self._records, content, 0, at)
        if content[end - 1 : end + 1] == b"\r\n":  # `at` is between them
            end += 1
        return end if end >= at else _end(self._record, content, end, len(content))

    def cells(self, content: bytes) -> Iterator[tuple[int, list[str]]]:
        """(line, from 0; cells) of each record. A byte that is not UTF-8 becomes a lone surrogate."""
        if BYTE_ORDER_MARK not in content:
            yield from self._parsed(content)
            return
        line = 0
        for match in self._record.finditer(content):
            record = match.group()
            yield from ((line, cells) for _, cells in self._parsed(without_byte_order_marks(record)))
            line += count_lines(record)

    def split(self, blocks: Iterator[bytes], width: int | None, limit: int) -> Iterator[Records | Broken]:
        """The records and broken lines in blocks of whole lines, in order; together they are all lines.

        `width`: number of cells of a row, if it is known. Of a record over several blocks about `limit` bytes (at least
        `HELD_BYTES`) are kept.
        """
        limit = max(limit, HELD_BYTES)
        data, position = b"", 0
        while True:
            if position == len(data):
                data, position = next(blocks, b""), 0
                if not data:
                    return
            end = _end(self._records, data, position, len(data))
            if end > position:
                yield _records(data[position:end])
                position = end
            elif not self._opened.match(data, position):
                position = yield from self._set_aside(data, position, width)
            else:
                data, position = yield from self._spanning(data[position:], blocks, width, limit)

    def _spanning(
        self, first: bytes, blocks: Iterator[bytes], width: int | None, limit: int
    ) -> Generator[Records | Broken, None, tuple[bytes, int]]:
        """A record that is inside a quoted field at the end of a block -> the data and offset to continue with."""
        held, size, num_lines = [first], len(first), 0
        for block in blocks:
            closed = self._closed.match(block)
            if closed and held and size + closed.end() <= limit:
                yield _records(b"".join(held) + block[: closed.end()])
                return block, closed.end()
            if closed:
                num_lines += sum(map(count_lines, held)) + count_lines(block[: closed.end()])
                yield Broken(size + closed.end(), num_lines, "", is_too_large=True)
                return block, closed.end()
            if not self._still_open.match(block):
                if held:
                    data = b"".join(held) + block
                    return data, (yield from self._set_aside(data, 0, width))
                lines, _ = self._swallowed(block, 0)
                end = sum(map(len, lines))
                detail = "a quote opens a field here and is closed in the wrong place"
                yield Broken(size + end, num_lines + len(lines), detail)
                return block, end
            size += len(block)
            if not held:
                num_lines += count_lines(block)
                continue
            held.append(block)
            if size > limit:  # its kind is known at its end
                held, num_lines = [], sum(map(count_lines, held))
        if held:
            data = b"".join(held)
            return data, (yield from self._set_aside(data, 0, width))
        yield Broken(size, num_lines, "a quote opens a field here and is never closed")
        return b"", 0

    def _set_aside(
        self, data: bytes, start: int, width: int | None
    ) -> Generator[Records | Broken, None, int]:
        """The broken record at `start` -> the offset to continue at."""
        first = _line(data, start)
        if not self._opened.match(first):
            yield Broken(len(first), 1, "a field continues after its closing quote")
            return start + len(first)
        swallowed, is_closed = self._swallowed(data, start + len(first))
        rows = swallowed[:-1] if is_closed else swallowed
        if self._are_rows(rows, width):
            yield from self._rows([first, *rows])
            return start + len(first) + sum(map(len, rows))
        lines = [first, *swallowed]
        where = f"is closed in the wrong place, {len(swallowed)} lines on" if is_closed else "is never closed"
        yield Broken(sum(map(len, lines)), len(lines), f"a quote opens a field here and {where}")
        return start + sum(map(len, lines))

    def _swallowed(self, data: bytes, start: int) -> tuple[list[bytes], bool]:
        """Lines from `start` on that are inside a quoted field, up to the first that closes it wrongly; and whether
        there is one."""
        lines = []
        while start < len(data):
            line = _line(data, start)
            lines.append(line)
            start += len(line)
            if not self._still_open.match(line):
                return lines, True
        return lines, False

    def _are_rows(self, lines: list[bytes], width: int | None) -> bool:
        rows = [line for line in lines if not line.isspace()]
        good = sum(self._width(line) == width for line in rows if self._record.fullmatch(line))
        return len(rows) >= ROWS_TO_TRUST and good >= SHARE_OF_ROWS * len(rows)

    def _width(self, line: bytes) -> int:
        return len(next(self._parsed(line))[1])

    def _rows(self, lines: list[bytes]) -> Iterator[Records | Broken]:
        """The first line is broken and each other one is read by itself; reading can start only after the last."""
        last = len(lines) - 1
        for index, line in enumerate(lines):
            if index and self._record.fullmatch(line):
                yield Records(line, 1, index == last)
            else:
                yield Broken(
                    len(line), 1, "a quote opens a field here and is not closed", False, index == last
                )

    def _parsed(self, content: bytes) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(2**31 - 1)
        text = io.StringIO(content.decode(errors="surrogateescape"), newline="")
        reader = csv.reader(text, delimiter=self.delimiter, strict=True)
        line = 0
        for cells in reader:
            yield line, cells
            line = reader.line_num


@functools.cache
def csv_grammar(delimiter: str) -> CsvGrammar:
    """The grammar for a delimiter, made once."""
    return CsvGrammar(delimiter)


def _records(content: bytes) -> Records:
    return Records(content, count_lines(content))


def _line(data: bytes, start: int) -> bytes:
    match = _LINE.match(data, start)
    assert match is not None, "blocks are whole lines"
    return match.group()


def _end(pattern: re.Pattern[bytes], content: bytes, start: int, end: int) -> int:
    match = pattern.match(content, start, end)
    assert match is not None, "records are whole"
    return match.end()
