"""What no format can read is refused before work, with a remedy."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.config import DataConfig
from pipeline.corpus import find_sources
from pipeline.errors import CorpusError
from tests.pipeline.corpus.corpora import JSONL, ROWS, texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK\x03\x04\x14\0\0\0", "ZIP archive.*unpack"),
        ("a.xlsx", b"PK\x03\x04\x14\0\0\0\x08\0[Content_Types].xml xl/workbook.xml", "Excel.*CSV"),
        (
            "a.tar.gz",
            gzip.compress(b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 300),
            "tar archive.*unpack",
        ),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        ("a", b"SQLite format 3\0" + b"\0" * 90, "SQLite"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0", "image"),
        ("a.avro", b"Obj\x01\x04\x14avro.codec\xff", "Avro"),
        ("a.orc", b"ORC\x0a\x03\0\0", "ORC"),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0", "HDF5"),
        ("a.pkl", b"\x80\x04\x95\0\0", "pickle"),
        ("a.bin", b"\xff\xfe\0\x01\xba\0\0", "UTF-16|binary"),
        ("a.bin", b"\xba\xfe\0\x01\xba\0\0", "binary"),
        ("a.jsonl", b"<!DOCTYPE html>\n<html>Not found</html>", "HTML page.*fetch"),
        ("a.parquet", b"<html>Not found</html>", "HTML page"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("a.parquet", b"just text", "no Parquet file"),
        ("a.json", json.dumps(ROWS).encode(), "one JSON array.*jq"),
        ("a.json", json.dumps(ROWS, indent=1).encode(), "one JSON array.*jq"),
        ("a.jsonl", json.dumps(ROWS[0], indent=1).encode(), "several lines.*jq"),
        ("a.json", json.dumps(ROWS * 3000).encode(), "one JSON array.*jq"),
        ("a.txt", JSONL, "looks like JSON lines.*data.format"),
        ("a.dump", json.dumps(ROWS, indent=1).encode(), "JSON array.*data.format=text"),
        ("a.jsonl", b"id,text\n1,a\n2,b\n", "CSV.*data.format"),
        ("a.txt", b"id,text\n1,a\n2,b\n", "CSV.*data.format"),
        ("a.csv", JSONL, "JSON lines.*data.format"),
        ("a.jsonl", JSONL.replace(b"\n", b"\r"), "several JSON objects per line.*jq"),
        ("a.jsonl.gz", gzip.compress(JSONL.replace(b"\n", b"")), "several JSON objects per line.*jq"),
        ("a.jsonl", JSONL.replace(b"}\n", b"},\n"), "several JSON objects per line.*commas"),
        ("a", JSONL.replace(b"\n", b""), "several JSON objects per line.*data.format=text"),
        ("a", JSONL + b"damaged\n" + JSONL, "JSON lines.*data.format=jsonl"),
        ("a", b"# a comment\n" + JSONL, "JSON lines.*data.format=jsonl"),
        (
            "a.json",
            json.dumps({"version": 1, "data": ROWS}).encode(),
            r"the array 'data'.*jq -c '\.\[\"data\"\]\[\]'",
        ),
        ("a.csv", b"id;text\n1;a, b\n", "no column 'text' with ','.*data.delimiter=';'"),
        ("a.csv", b"id\ttext\n1\ta, b\n", r"data.delimiter='\\t'"),
        ("a.tsv", b"id|text\n1|a\n", r"data.delimiter='\|'"),
        ("a.csv", b"id;content\n1;a\n", "data.delimiter=';', and data.text_field"),
        ("a.csv", b"sep=;\r\nid;text\r\n1;a\r\n", "'sep=;' for Excel.*data.delimiter"),
        ("a.jsonl.Z", b"\x1f\x9d\x90abc", "another kind than gzip"),
        ("a.jsonl.gz", b"\x8f\xff\0\1\2\3" * 9, "gzip.*damaged"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(JSONL)), "compressed twice"),
    ],
)
def test_what_is_not_read_is_said_before_work(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for given_ in (tmp_path / name, tmp_path):
        with pytest.raises(CorpusError, match=message):
            find_sources(DataConfig(inputs=(str(given_),)), lambda line: None)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv"])
def test_utf16_without_a_byte_order_mark_is_recognised(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_bytes("id,text\n1,Some text of a line.\n".encode(encoding))
    with pytest.raises(CorpusError, match=f"set data.encoding={encoding}"):
        texts(inputs=(str(tmp_path / name),))
    if name == "a.csv":
        assert texts(inputs=(str(tmp_path / name),), encoding=encoding) == ["Some text of a line."]


@pytest.mark.parametrize("encoding", ["rot13", "hex", "idna", "undefined", "base64", "none"])
def test_what_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="there is no text encoding"):
        DataConfig(encoding=encoding)
