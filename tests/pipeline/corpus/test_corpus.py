import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import (
    Document,
    Rejection,
    WorkUnitReader,
    find_sources,
    plan_work_units,
    python_docs,
    survey_all,
)
from pipeline.errors import CorpusError

ROWS = [{"id": f"d{i}", "text": f'Text {i}, ünï 世界.\nSecond "line", {"x" * i}'} for i in range(40)]


def read(work_unit_bytes: int = 300, **options: Any) -> list[Document | Rejection]:
    data = DataConfig(**options)
    units = plan_work_units(survey_all(find_sources(data), data, work_unit_bytes), data, work_unit_bytes)
    # Backwards, so that readers of compressed files have to start over as well as go on.
    items_of = {unit.index: list(WorkUnitReader(data).read(unit)) for unit in reversed(units)}
    reader = WorkUnitReader(data)
    assert [list(reader.read(unit)) for unit in units] == [items_of[unit.index] for unit in units]
    return [item for unit in units for item in items_of[unit.index]]


def texts_of(items: list[Document | Rejection]) -> list[tuple[str, str]]:
    assert all(isinstance(item, Document) for item in items), items
    return [(item.doc_id, item.text) for item in items if isinstance(item, Document)]


def names_of(items: list[Document | Rejection]) -> list[tuple[str, str]]:
    """Texts with the file's name alone of ids that were made."""
    return [(doc_id.rpartition("#")[0], text) for doc_id, text in texts_of(items)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    suffix = "".join(path.suffixes)
    if suffix == ".jsonl":
        path.write_bytes(jsonl(rows))
    elif suffix == ".jsonl.gz":
        content = jsonl(rows)  # two members, as `cat a.gz b.gz` makes
        path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    elif suffix == ".jsonl.zst":
        content = jsonl(rows)
        path.write_bytes(zstandard.compress(content[:500]) + zstandard.compress(content[500:]))
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif suffix == ".stream.arrow":
        with pa.ipc.new_stream(path, pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows), max_chunksize=7)
    elif suffix == ".arrow":
        with pa.ipc.new_file(path, pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows), max_chunksize=7)
    else:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        content = ("\ufeff" + buffer.getvalue()).encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)


FORMATS = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow", ".stream.arrow", ".csv", ".csv.gz"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("work_unit_bytes", [1, 300, 10**6])
def test_every_format_gives_the_same_documents(tmp_path: Path, suffix: str, work_unit_bytes: int) -> None:
    rows = [{**row, "meta": i} for i, row in enumerate(ROWS)]
    write(tmp_path / f"a{suffix}", rows)
    found = texts_of(read(work_unit_bytes, inputs=(str(tmp_path / f"a{suffix}"),)))
    assert found == [(row["id"], row["text"]) for row in ROWS]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.integers(1, 200), st.binary(max_size=8))
def test_lines_are_cut_nowhere_but_at_their_ends(texts: list[str], work_unit_bytes: int, tail: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.jsonl")
        file.write_bytes(jsonl([{"text": text} for text in texts]).rstrip(b"\n"))
        items = read(work_unit_bytes, inputs=(str(file),))
    assert len(items) == len(texts)
    for number, (text, item) in enumerate(zip(texts, items, strict=True), 1):
        assert item.position == f"line {number}"
        if isinstance(item, Document):
            assert item.text == text and item.doc_id.startswith(f"a.jsonl#{number}@")
        else:
            assert text.isspace() or not text or not text.isprintable()


def test_a_data_set_saved_by_datasets(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": saved, "dev": saved.select(range(3))}).save_to_disk(tmp_path / "both")
    expected = [(row["id"], row["text"]) for row in ROWS]
    assert texts_of(read(inputs=(f"datasets:{tmp_path}/plain",))) == expected
    assert texts_of(read(inputs=(f"datasets:{tmp_path}/both:dev",))) == expected[:3]
    with pytest.raises(CorpusError, match="cannot be loaded"):
        read(inputs=(f"datasets:{tmp_path}/nothing",))


def test_folders_globs_and_urls(tmp_path: Path) -> None:
    for name in ("b/x.txt", "a.txt", "b/y.md", ".hidden/z.txt", "c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"This is {name}.")
    assert [name for name, _ in names_of(read(inputs=(str(tmp_path),)))] == [
        "a.txt",
        "b/x.txt",
        "b/y.md",
        "c.py",
    ]
    assert [name for name, _ in names_of(read(inputs=(f"{tmp_path}/**/*.txt",)))] == ["a.txt", "b/x.txt"]
    assert [name for name, _ in names_of(read(inputs=(f"file://{tmp_path}/b",)))] == ["x.txt", "y.md"]
    assert [name for name, _ in names_of(read(inputs=(f"file://{tmp_path}/a.txt",)))] == ["a.txt"]
    same = [str(tmp_path / "b/x.txt"), str(tmp_path / "x.txt")]
    Path(same[1]).write_text("Another x.")
    items = read(inputs=tuple(same))
    assert [name for name, _ in names_of(items)] == ["x.txt", "x.txt"]
    assert len({item.doc_id for item in items}) == 2 and [item.file for item in items] == same


def test_other_fields_and_numbers_as_ids(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"nr": 7, "content": "Seven."}, {"content": "None."}]))
    options = {"text_field": "content", "id_field": "nr"}
    assert texts_of(read(inputs=(str(tmp_path / "a.jsonl"),), **options)) == [
        ("7", "Seven."),
        ("a.jsonl#2@565ac819259b", "None."),
    ]


def test_max_bytes_ends_the_corpus_and_dev_inputs_are_dev(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / "b.jsonl", [{"id": f"dev{i}", "text": "Dev."} for i in range(3)])
    items = read(
        inputs=(str(tmp_path / "a.jsonl"),),
        dev_inputs=(str(tmp_path / "b.jsonl"),),
        max_bytes=500,
        work_unit_bytes=10**6,
    )
    documents = [item for item in items if isinstance(item, Document)]
    train = [document for document in documents if not document.is_dev]
    assert 500 <= sum(len(json.dumps(ROWS[i])) + 1 for i in range(len(train))) < 800
    assert [document.doc_id for document in documents if document.is_dev] == ["dev0", "dev1", "dev2"]


def test_bad_lines_are_rejected_with_their_position(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"id": "good", "text": "Fine."}',
        b'{"id": "cut", "text": "no e',
        b'{"id": "latin", "text": "caf\xe9"}',
        b"",
        b'{"id": "other", "content": "x"}',
        b'{"id": "number", "text": 5}',
        b'{"id": "null", "text": null}',
        b'{"id": "empty", "text": " \\n"}',
        b'{"id": "surrogate", "text": "a\\ud800"}',
        b'["a list"]',
        b'{"id": ["x"], "text": "Fine."}',
        b'{"id": "large", "text": "' + b"x" * 3000 + b'"}',
        b"[" * 100_000,
        b'{"id": "last", "text": "Fine."}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    items = read(inputs=(str(tmp_path / "a.jsonl"),), max_document_bytes=2000)
    assert [item.doc_id for item in items if isinstance(item, Document)] == ["good", "last"]
    rejected = {item.position: item.reason for item in items if isinstance(item, Rejection)}
    assert rejected == {
        "line 2": "broken JSON",
        "line 3": "not UTF-8",
        "line 5": "no field 'text'",
        "line 6": "no text in field 'text'",
        "line 7": "no text in field 'text'",
        "line 8": "empty",
        "line 9": "lone surrogate",
        "line 10": "not a JSON object",
        "line 11": "bad id",
        "line 12": "too large",
        "line 13": "too large",
    }
    assert {item.file for item in items} == {"a.jsonl"}


def test_bad_csv_rows_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"two\nlines"\n2,caf\xe9\n3,a,b\n4,fine\n')
    items = read(1, inputs=(str(tmp_path / "a.csv"),))
    assert [(item.position, getattr(item, "text", "") or getattr(item, "reason", "")) for item in items] == [
        ("line 2", "two\nlines"),
        ("line 4", "not UTF-8"),
        ("line 5", "broken CSV"),
        ("line 6", "fine"),
    ]
    (tmp_path / "b.csv").write_bytes(b"id,body\n1,x\n")
    with pytest.raises(CorpusError, match=r"no column 'text'.*'id', 'body'.*data.text_field"):
        read(inputs=(str(tmp_path / "b.csv"),))


def test_bad_text_in_columns(tmp_path: Path) -> None:
    text = pa.array([b"good", b"caf\xe9", None], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": text}), tmp_path / "a.parquet")
    items = read(inputs=(str(tmp_path / "a.parquet"),))
    assert [getattr(item, "text", "") or getattr(item, "reason", "") for item in items] == [
        "good",
        "not UTF-8",
        "no text in field 'text'",
    ]
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match=r"b.parquet.*no column 'text'"):
        read(inputs=(str(tmp_path / "b.parquet"),))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow"])
def test_a_truncated_file_fails_before_work_starts(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write(file, ROWS)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=f"a{suffix}"):
        read(inputs=(str(file),))


def test_a_damaged_gzip_is_named_with_its_position(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(jsonl(ROWS)))
    content[len(content) // 2] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a.jsonl.gz.*(damaged|truncated).*bytes of text"):
        read(inputs=(str(tmp_path / "a.jsonl.gz"),))


def test_a_file_that_changes_after_the_plan_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    data = DataConfig(inputs=(str(tmp_path / "a.jsonl"),))
    [unit] = plan_work_units(survey_all(find_sources(data), data, 10**6), data, 10**6)
    write(tmp_path / "a.jsonl", ROWS[1:])
    with pytest.raises(CorpusError, match="changed"):
        list(WorkUnitReader(data).read(unit))
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"a\.jsonl"):
        list(WorkUnitReader(data).read(unit))


@pytest.mark.parametrize("given", ["missing.txt", "nowhere/*.jsonl", "memory://nothing.txt", "nosuch://x"])
def test_a_missing_input_is_named(tmp_path: Path, given: str) -> None:
    path = given if "://" in given else str(tmp_path / given)
    with pytest.raises(CorpusError, match=given.split("://")[0].replace("*", ".")):
        read(inputs=(path,))


def test_no_input_and_one_named_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"data\.inputs"):
        read()
    write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(CorpusError, match="twice"):
        read(inputs=(str(tmp_path / "a.jsonl"), str(tmp_path)))


def test_a_line_of_50_megabytes(tmp_path: Path) -> None:
    text = "Many words make a long line. " * (50 * 2**20 // 29)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl([{"text": text}, {"text": "Short."}]), 1))
    assert [text for _, text in texts_of(read(10**6, inputs=(str(tmp_path / "a.jsonl.gz"),)))] == [
        text,
        "Short.",
    ]


def test_the_documentation_of_python_is_text_in_a_fixed_order() -> None:
    first, second = list(python_docs(200_000)), list(python_docs(200_000))
    assert first == second
    assert 200_000 <= sum(len(text.encode()) for _, text in first) < 400_000
    assert len({doc_id for doc_id, _ in first}) == len(first)
