"""JSON lines: sequences, joined files, and lines that are no documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus import Rejection
from tests.pipeline.corpus.corpora import JSONL, ROWS, items, texts


@pytest.mark.parametrize("name", ["a.jsonl", "a.json-seq", "a", "a.jsonl.gz"])
def test_json_text_sequences_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"".join(b"\x1e" + line + b"\n" for line in JSONL.splitlines()))
    assert texts(inputs=(str(tmp_path / name),)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("name", ["a.jsonl", "a"])
def test_files_with_byte_order_marks_that_were_joined(tmp_path: Path, name: str) -> None:
    byte_order_mark = b"\xef\xbb\xbf"
    line = JSONL.splitlines()[0] + b"\n"
    (tmp_path / name).write_bytes(
        byte_order_mark + line + byte_order_mark + line + byte_order_mark + byte_order_mark + line
    )
    assert texts(inputs=(str(tmp_path / name),)) == [ROWS[0]["text"]] * 3
    *_, joined = items(tmp_path, "joined.jsonl", line * 2 + line[:-1] + byte_order_mark + line)
    assert isinstance(joined, Rejection) and "a line end may be missing there" in joined.detail


@pytest.mark.parametrize("keys", [("data",), ("corpus", "docs"), ("a", "b", 'c"')])
def test_documents_within_one_long_object_are_counted_and_named(
    tmp_path: Path, keys: tuple[str, ...]
) -> None:
    tree: Any = [{"id": str(i), "text": "word " * 200} for i in range(200)]
    for key in reversed(keys):
        tree = {key: tree}
    [only] = items(tmp_path, "a.json", json.dumps(tree).encode())
    assert isinstance(only, Rejection) and only.num_lines == 200
    path = "".join(f"[{json.dumps(key)}]" for key in keys)
    assert f"200 documents in an array; write one document per line: jq -c '.{path}[]' a.json" in only.detail


def test_objects_with_arrays_of_their_own_are_documents(tmp_path: Path) -> None:
    rows = [{"id": str(i), "notes": [{"text": "n"}] * 9000, "text": "w"} for i in range(2)]
    assert len(items(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())) == 2
    [no_text] = items(tmp_path, "b.jsonl", b'{"id": 1, "notes": [{"body": "n"}]}')
    assert isinstance(no_text, Rejection) and no_text.reason == "no field 'text'" and no_text.num_lines == 1


def test_values_that_are_no_objects_and_long_numbers_say_what_to_do(tmp_path: Path) -> None:
    array, string, number, long = items(tmp_path, "a.jsonl", b'["a"]\n"b"\n3\n{"id": ' + b"9" * 5000 + b"}\n")
    assert [one.detail for one in (array, string, number) if isinstance(one, Rejection)] == [
        f'it is {kind}; write {{"text": ...}}' for kind in ("an array", "a string", "a bare value")
    ]
    assert isinstance(long, Rejection) and long.detail == "a number in it is too long to read"
