"""Odd and broken files of every format: each line is a document or a rejection, and nothing else is raised."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import DataConfig
from pipeline.corpus import Document, Rejection, WorkUnitReader, find_sources, plan_work_units, survey_all
from pipeline.corpus.formats.table import format_by_signature
from pipeline.errors import CorpusError


def read_inputs(*inputs: str, work_unit_bytes: int = 10**6, **options: Any) -> list[Document | Rejection]:
    data = DataConfig(inputs=inputs, **options)
    units = plan_work_units(survey_all(find_sources(data), data, work_unit_bytes), data, work_unit_bytes)
    reader = WorkUnitReader(data)
    return [item for unit in units for item in reader.read(unit)]


def read(name: str, content: bytes, **options: Any) -> list[Document | Rejection]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(content)
        return read_inputs(f"{folder}/{name}", **options)


def texts(items: list[Document | Rejection]) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


def reasons(items: list[Document | Rejection]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Rejection)]


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


GOOD = pa.table({"id": ["a", "b"], "text": ["One.", "Two."]})
SEEDS = [b"", b'{"text": "x"}\n' * 5, b'id,text\n1,"a"\n2,b\n', b"1\tA\t_\t_\t_\t_\t_\t_\t_\t_\n\n"]
SEEDS += [parquet(GOOD), arrow(GOOD)]


@settings(max_examples=60)
@given(
    st.sampled_from(["jsonl", "csv", "txt", "conllu", "parquet", "arrow"]),
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=12)), max_size=3),
    st.integers(1, 100),
)
def test_no_bytes_raise_anything_foreign(
    suffix: str, seed: bytes, edits: list[tuple[float, int, bytes]], work_unit_bytes: int
) -> None:
    content = seed
    for share, removed, added in edits:
        at = int(share * len(content))
        content = content[:at] + added + content[at + removed :]
    try:
        items = read(f"a.{suffix}", content, work_unit_bytes=work_unit_bytes)
    except CorpusError as error:
        assert "\n" not in str(error) and f"a.{suffix}" in str(error)
        return
    if suffix == "jsonl" and not format_by_signature(content):  # magic numbers decide over the name
        assert len(items) == sum(
            bool(line.strip(b"\xef\xbb\xbf \t\r\x0b\x0c")) for line in content.split(b"\n")
        )


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x), max_leaves=5)
)
def test_any_json_is_a_document_or_a_rejection(value: Any) -> None:
    line = json.dumps({"text": value, "id": value}).encode()
    assert len(read("a.jsonl", line + b"\n" + line)) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "broken JSON"),
        (b'{"text": "x", "n": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "broken JSON"),
        (b'{"text": "1st", "text": "2nd"}', "duplicate key"),
        (b'{"text": "x", "other": 1, "other": 2}', "duplicate key"),
        (b'{"text": "x", "t\\u0065xt": "y"}', "duplicate key"),
        (b'{"text": "x", "id": NaN}', "bad id"),
        (b'{"text": "x", "id": true}', "bad id"),
        (b'{"text": Infinity}', "no text in field 'text'"),
    ],
)
def test_a_line_that_cannot_be_read_is_set_aside(line: bytes, reason: str) -> None:
    items = read("a.jsonl", b'{"text": "before"}\n' + line + b'\n{"text": "after", "n": NaN}\n')
    assert texts(items) == ["before", "after"] and reasons(items) == [reason]


def test_repeated_keys_count_on_the_way_to_the_field_alone() -> None:
    line = b'{"meta": {"text": "x", "text": "y"}, "text": "z"}\n'
    assert texts(read("a.jsonl", line)) == ["z"]
    assert reasons(read("a.jsonl", line, text_field="meta.text")) == ["duplicate key"]


def test_nested_fields() -> None:
    rows = [{"meta": {"text": "deep"}}, {"meta.text": "flat", "meta": {"text": "deep"}}, {"meta": 3}]
    content = "\n".join(map(json.dumps, rows)).encode()
    items = read("a.jsonl", content, text_field="meta.text")
    assert texts(items) == ["deep", "flat"] and reasons(items) == ["no field 'meta.text'"]
    when = pa.array([-(2**62), 0], pa.timestamp("ms"))
    meta = pa.StructArray.from_arrays([pa.array(["x", "y"]), when], ["text", "when"])
    for suffix, made in (("parquet", parquet), ("arrow", arrow)):
        items = read(f"a.{suffix}", made(pa.table({"meta": meta})), text_field="meta.text")
        assert texts(items) == ["x", "y"]
    for suffix, made in (("parquet", parquet), ("arrow", arrow)):
        flat = pa.table({"meta.text": ["flat"], "meta": meta[:1]})
        assert texts(read(f"a.{suffix}", made(flat), text_field="meta.text")) == ["flat"]


@pytest.mark.parametrize(("suffix", "made"), [("parquet", parquet), ("arrow", arrow)])
def test_columns_of_tables(suffix: str, made: Any) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"])
    with pytest.raises(CorpusError, match=rf"a\.{suffix}.*two columns 'text'"):
        read(f"a.{suffix}", made(twice))
    odd = made(pa.table({"text": ["a"], "name": ["b"]})).replace(b"name", b"n\xf4\xf4e")
    with pytest.raises(CorpusError, match=rf"a\.{suffix}"):
        read(f"a.{suffix}", odd)
    dates = pa.array([-(2**62), 0, None], pa.timestamp("ms"))
    words = pa.array(["one", "two", "one"]).dictionary_encode()
    items = read(f"a.{suffix}", made(pa.table({"id": dates, "text": words})))
    assert reasons(items) == ["bad id", "bad id"] and texts(items) == ["one"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_encodings(encoding: str) -> None:
    start = "äöü ਊ世" if encoding.startswith("utf") else "äöü "
    rows = [f"{start}{i}" for i in range(40)]
    lines = "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows)
    assert texts(read("a.jsonl", lines.encode(encoding), encoding=encoding, work_unit_bytes=50)) == rows
    table = "id,text\n" + "".join(f'{i},"{row}"\n' for i, row in enumerate(rows))
    assert texts(read("a.csv", table.encode(encoding), encoding=encoding, work_unit_bytes=50)) == rows
    prose = "\n".join(rows)
    assert texts(read("a.txt", prose.encode(encoding), encoding=encoding)) == [prose]


def test_other_encodings_are_said_and_never_guessed() -> None:
    with pytest.raises(CorpusError, match=r"a\.jsonl.*data.encoding=utf-16"):
        read("a.jsonl", '{"text": "x"}\n'.encode("utf-16"))
    with pytest.raises(CorpusError, match=r"a\.txt.*data.encoding=utf-16"):
        read("a.txt", "x".encode("utf-16"))
    items = read("a.jsonl", '{"text": "é"}\n{"text": "e"}\n'.encode(), encoding="ascii")
    assert reasons(items) == ["not ascii"] and texts(items) == ["e"]
    for wrong in ("nosuch", "base64", "hex", "undefined"):
        with pytest.raises(ValidationError, match="no text encoding"):
            DataConfig(encoding=wrong)
    for wrong in ("", ",,", '"', "\n", "é"):
        with pytest.raises(ValidationError, match="one ASCII character"):
            DataConfig(delimiter=wrong)


def test_byte_order_marks_of_joined_files() -> None:
    byte_order_mark = b"\xef\xbb\xbf"
    line = byte_order_mark + b'{"text": "x"}\n'
    assert texts(read("a.jsonl", line + byte_order_mark + line)) == ["x", "x"]
    assert texts(read("a.txt", byte_order_mark + b"one\n" + byte_order_mark + b"two")) == ["one\ntwo"]


CONLLU = """# newdoc id = first
# newpar
# text = Don't stop.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\t_\t_\t_\t_\t_\t_\t_\t_
2\tn't\t_\t_\t_\t_\t_\t_\t_\t_
3\tstop\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
4\t.\t_\t_\t_\t_\t_\t_\t_\t_

1\tGo\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1.1\tghost\t_\t_\t_\t_\t_\t_\t_\t_
2-3\t!?\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\t!\t_\t_\t_\t_\t_\t_\t_\t_
3\t?\t_\t_\t_\t_\t_\t_\t_\t_

# newpar
1\tEnd\t_\t_\t_\t_\t_\t_\t_\t_

# newdoc
1\tX\t_\t_\t_\t_\t_\t_\t_\t_
broken
"""


def test_conllu() -> None:
    items = read("a.conllu", CONLLU.encode())
    assert [(item.doc_id, getattr(item, "text", "")) for item in items] == [
        ("first", "Don't stop. Go!?\nEnd"),
        (None, ""),
    ]
    assert reasons(items) == ["broken CoNLL-U"]


def identities(*inputs: str) -> dict[str, tuple[str, int]]:
    items = read_inputs(*inputs)
    return {item.text: (item.doc_id, item.hashed) for item in items if isinstance(item, Document)}


def test_identity_depends_on_neither_folder_nor_other_inputs(tmp_path: Path) -> None:
    for folder in ("here/x", "there/deeper/x", "here/y"):
        (tmp_path / folder).mkdir(parents=True)
        lines = [json.dumps({"text": f"Text {folder[-1]} {i}"}) for i in range(20)]
        (tmp_path / folder / "part.jsonl").write_text("\n".join(lines))
    here = identities(f"{tmp_path}/here/x")
    for other in (
        [f"{tmp_path}/there/deeper/x"],
        [f"{tmp_path}/here/x/part.jsonl"],
        [f"{tmp_path}/here/x/*.jsonl"],
        [f"file://{tmp_path}/here/x"],
        [f"file://{tmp_path}/here/x/part.jsonl"],
        [f"{tmp_path}/here/y", f"{tmp_path}/here/x"],
    ):
        found = identities(*other)
        assert {text: found[text] for text in here} == here
