import csv
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import (
    Document,
    Rejection,
    WorkUnitReader,
    find_sources,
    plan_work_units,
    survey_all,
)
from pipeline.corpus.formats import csv_records
from pipeline.corpus.formats.lines import count_lines
from pipeline.errors import CorpusError


def read(content: bytes, work_unit_bytes: int = 10**6, **options: Any) -> list[Document | Rejection]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.csv").write_bytes(content)
        data = DataConfig(inputs=(f"{folder}/a.csv",), **options)
        units = plan_work_units(survey_all(find_sources(data), data, work_unit_bytes), data, work_unit_bytes)
        reader = WorkUnitReader(data)
        return [item for unit in units for item in reader.read(unit)]


def documents(items: list[Document | Rejection]) -> list[tuple[str, str]]:
    return [(item.doc_id, item.text) for item in items if isinstance(item, Document)]


def lost(items: list[Document | Rejection]) -> int:
    return sum(item.num_lines for item in items if isinstance(item, Rejection))


cell = st.text(alphabet="ab\",;\r\n\t'ü世\ufeff \0", max_size=8)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(cell, cell), max_size=12),
    st.integers(1, 60),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
)
def test_the_documents_are_those_of_the_csv_module(
    rows: list[tuple[str, str]], work_unit_bytes: int, quoting: Any, end: str, delimiter: str, is_ended: bool
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting, lineterminator=end, delimiter=delimiter)
    writer.writerow(["id", "text"])
    writer.writerows((f"{index}", text) for index, (_, text) in enumerate(rows))
    text = buffer.getvalue() if is_ended else buffer.getvalue().removesuffix(end)
    items = read(text.encode(), work_unit_bytes, delimiter=delimiter)
    parsed = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))[1:]
    assert documents(items) == [(row[0], row[1]) for row in parsed if len(row) == 2 and row[1].strip()]


@settings(max_examples=150)
@given(st.text(alphabet='ab",\n\r', max_size=60), st.integers(1, 40))
def test_any_text_is_accounted_for_for_any_work_units(body: str, work_unit_bytes: int) -> None:
    content = ("id,text\n" + body).encode()
    items = read(content, work_unit_bytes)
    assert items == read(content)
    try:
        parsed = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))[1:]
    except csv.Error:
        assert lost(items) >= 1
    else:
        good = [row for row in parsed if len(row) == 2 and row[1].strip() and row != ["id", "text"]]
        assert [text for _, text in documents(items)] == [row[1] for row in good]


def test_a_quote_inside_a_field_is_one() -> None:
    content = b'id,text\n1,a 5" pipe\n2,"x\ny, z"\n3,end\n'
    for work_unit_bytes in range(1, len(content) + 1):
        assert documents(read(content, work_unit_bytes)) == [
            ("1", 'a 5" pipe'),
            ("2", "x\ny, z"),
            ("3", "end"),
        ]


@pytest.mark.parametrize("work_unit_bytes", [20, 5000, 10**7])
@pytest.mark.parametrize("limit", [10**4, 10**8])
def test_an_unclosed_quote_costs_its_line(work_unit_bytes: int, limit: int) -> None:
    rows = [f"{index},text of row {index}\n" for index in range(20_000)]
    rows[300] = '300,"text of row 300\n'
    items = read(b"id,text\n" + "".join(rows).encode(), work_unit_bytes, max_document_bytes=limit)
    assert len(documents(items)) == 19_999 and lost(items) == 1
    [rejection] = [item for item in items if isinstance(item, Rejection)]
    assert rejection.position == "line 302" and "quote" in rejection.detail


def test_what_a_broken_quote_swallows_is_counted_as_lines() -> None:
    prose = "".join(f"Prose, with commas, {index}\n" for index in range(50))
    items = read(f'id,text\n1,fine\n2,"{prose}so "he" said"\n3,last\n'.encode())
    assert documents(items) == [("1", "fine"), ("3", "last")] and lost(items) == 51
    items = read(f'id,text\n1,fine\n2,"{prose}'.encode())
    assert documents(items) == [("1", "fine")] and lost(items) == 50


def test_a_row_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "HELD_BYTES", 0)
    huge = "word, word\n" * 300_000
    items = read(f'id,text\n1,"{huge}"\n2,fine\n'.encode(), max_document_bytes=2_000_000)
    assert documents(items) == [("2", "fine")]
    assert [(item.reason, item.num_lines) for item in items if isinstance(item, Rejection)] == [
        ("too large", 300_001)
    ]
    items = read(f'id,text\n1,"{huge}'.encode(), max_document_bytes=2_000_000)
    assert documents(items) == [] and lost(items) == 300_000
    items = read(f'id,text\n1,"{huge}" x\n2,fine\n'.encode(), max_document_bytes=2_000_000)
    assert documents(items) == [("2", "fine")] and lost(items) == 300_001


@pytest.mark.parametrize("line", ['x","y\n', '1,"a\n', '1,"a" b\n', '"\n', '""",\n', 'a"b,"c\n'])
def test_broken_quotes_take_linear_time(line: str) -> None:
    content = b"id,text\n" + line.encode() * 200_000 + b'"x" y\n'
    start = time.process_time()
    items = read(content, 50_000)
    assert time.process_time() - start < 20
    assert lost(items) + len(documents(items)) <= count_lines(content)


def test_line_ends_headers_and_columns() -> None:
    for end in ("\r", "\n", "\r\n"):
        content = end.join(["id,text", "1,one", '2,"two' + end + 'lines"']).encode()
        assert documents(read(content, 1)) == [("1", "one"), ("2", f"two{end}lines")]
    for header in (b"id,text", b"id,text\r", b"\xef\xbb\xbfid,text\n\n"):
        assert read(header) == []
    items = read(b'\xef\xbb\xbf"id",text\n1,one\n\xef\xbb\xbf"id",text\n\xef\xbb\xbf2,two\n')
    assert documents(items) == [("1", "one"), ("2", "two")]
    assert [item.reason for item in items if isinstance(item, Rejection)] == ["header again"]
    with pytest.raises(CorpusError, match=r"a\.csv.*two columns 'text'"):
        read(b"id,text,text\n1,a,b\n")
    with pytest.raises(CorpusError, match="header cannot be read"):
        read(b'id,"text\n1,a\n')
