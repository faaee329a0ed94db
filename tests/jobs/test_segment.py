import bz2
import gzip
import json
import lzma
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from infra.storage import Folder, StorageError
from jobs import segment
from jobs.reports import segmenter_differences
from pipeline.errors import ConfigError, CorpusError


def write(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_every_document_gets_its_ends(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"in.{suffix}", {"id": 7, "text": "One. Two."}, "", {"id": "b", "text": ""})
    output = tmp_path / "new" / f"out.{suffix}"
    counts = segment.segment_file("punctuation_v1", ["line_breaks=false"], str(source), str(output))
    assert counts == segment.Segmented(documents=2, characters=9, sentences=2)
    data = output.read_bytes()
    lines = (gzip.decompress(data) if suffix.endswith("gz") else data).splitlines()
    assert [json.loads(line) for line in lines] == [{"id": 7, "ends": [5, 9]}, {"id": "b", "ends": []}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": 1, "te', "in.jsonl:2: not JSON"),
        ('{"id": 1}', "in.jsonl:2: not a document: it needs a string in 'text'"),
        ('{"text": "x"}', "in.jsonl:2: not a document: it needs 'id'"),
        ("[1]", "in.jsonl:2: not a document"),
    ],
)
def test_a_broken_line_is_named_and_no_file_is_left(tmp_path: Path, line: str, says: str) -> None:
    source = write(tmp_path / "in.jsonl", {"id": 0, "text": "x"}, line)
    output = tmp_path / "out" / "out.jsonl"
    with pytest.raises(CorpusError, match=says):
        segment.segment_file("punctuation_v1", [], source, output)
    assert list(output.parent.iterdir()) == []


def test_bytes_that_are_no_utf8_and_truncated_files_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"id": 1, "text": "\xff"}\n')
    with pytest.raises(CorpusError, match=r"in.jsonl:1: not UTF-8"):
        segment.segment_file("punctuation_v1", [], source, tmp_path / "out.jsonl")
    whole = write(tmp_path / "whole.jsonl.gz", *({"id": i, "text": str(i)} for i in range(99))).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-40])
    with pytest.raises(CorpusError, match=r"cut.jsonl.gz' is truncated"):
        segment.segment_file("punctuation_v1", [], tmp_path / "cut.jsonl.gz", tmp_path / "out.jsonl")
    with pytest.raises(CorpusError, match=r"gone.jsonl' cannot be opened: .*No such file"):
        segment.segment_file("punctuation_v1", [], tmp_path / "gone.jsonl", tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("punctuation", (), "did you mean 'punctuation_v"),
        ("punctuation_v1", ("speed=1",), "it has no option 'speed'; its options are"),
        ("punctuation_v1", ("line_breaks",), "must look like key=value"),
    ],
)
def test_an_unknown_segmenter_or_option_is_refused(name: str, options: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        segment.build(name, options)


@pytest.mark.parametrize(
    "arguments", [("--segmenter", "punctuation_v1", "--output"), ("--compare", "punctuation_v1", "--html")]
)
def test_the_input_is_never_replaced(tmp_path, arguments):
    from typer.testing import CliRunner

    from jobs.cli import app

    source = tmp_path / "docs.jsonl"
    source.write_text('{"id": 1, "text": "A. B."}\n')
    (tmp_path / "link").symlink_to("docs.jsonl")
    for output, says in (
        (source, "is the input"),
        (tmp_path / "link", "is the input"),
        (tmp_path, "cannot write"),
    ):
        result = CliRunner().invoke(app, ["segment", str(source), *arguments, str(output)])
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert source.read_text() == '{"id": 1, "text": "A. B."}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.jsonl", "link"]


def test_options_given_twice_or_with_repeated_keys_are_refused():
    for options in (["n=1", "n=2"], ["n={a: 1, a: 2}"]):
        with pytest.raises(ConfigError, match="given twice"):
            segment.build("fixed_v1", options)


def test_a_few_broken_lines_are_left_out_counted_and_said(tmp_path):
    from typer.testing import CliRunner

    from jobs.cli import app

    rows = [{"id": i, "text": "A. B."} for i in range(300)]
    source = write(tmp_path / "in.jsonl", *rows[:7], "{", *rows[7:], "[]")
    output = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["segment", str(source), "--output", str(output)])
    assert result.exit_code == 0, result.stderr
    assert "300 documents" in result.stderr
    assert f"2 lines rejected, which {output} lacks; the first: {source}:8: not JSON" in result.stderr
    assert len(output.read_text().splitlines()) == 300
    write(source, *rows[:99], "{", "{")
    with pytest.raises(
        CorpusError, match=r"2 of 101 lines are no documents, more than 1%; the first: .*:100: not JSON"
    ):
        segment.segment_file("punctuation_v1", [], source, tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, bytes])
@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in"])
def test_compression_is_known_by_content(
    tmp_path: Path, compress: Callable[[bytes], bytes], name: str
) -> None:
    (tmp_path / name).write_bytes(
        compress(b'\x1e{"id": 1, "text": "A. B."}\n\xef\xbb\xbf{"id": 2, "text": "C."}\n')
    )
    made = segment.segment_file("punctuation_v1", [], tmp_path / name, tmp_path / "out.jsonl.GZ")
    assert made.documents == 2 and made.rejected == 0
    assert len(gzip.decompress((tmp_path / "out.jsonl.GZ").read_bytes()).splitlines()) == 2
    (tmp_path / "text").write_bytes(compress(b"A. B."))
    assert segmenter_differences.compare(["punctuation_v1"], tmp_path / "text").texts == ["A. B."]
    assert segmenter_differences.compare(["punctuation_v1"], tmp_path / name).texts == ["A. B.", "C."]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"id": 1, "text": "x"},\n{"id": 2, "text": "x"}]', "is one JSON array.*jq"),
        (b'{"data": [{"id": 1, "text": "x"}]}', "in the array 'data'.*jq"),
        ('{"id": 1, "text": "x"}\n'.encode("utf-16"), "UTF-16.*iconv"),
        ('{"id": 1, "text": "x"}\n'.encode("utf-16-be"), "UTF-16.*iconv"),
        (b"PAR1" + b"\0" * 20, "is Parquet: write its rows as JSON lines"),
        (b"PK\x03\x04" + b"\0" * 20, "is a ZIP archive.*unpack"),
        (b"<!doctype html><html>", "is an HTML page"),
    ],
)
def test_what_is_no_json_lines_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=says) as raised:
        segment.segment_file("punctuation_v1", [], tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert "data." not in str(raised.value) and not (tmp_path / "out.jsonl").exists()


def test_only_a_regular_file_or_url_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "in.jsonl", {"id": 1, "text": "A."})
    os.mkfifo(tmp_path / "pipe")
    for output, says in (
        ("https://127.0.0.1:9/out.jsonl", "on a web server, which is not written to"),
        ("memory://segments/", "it is a folder"),
        ("pipe", "it is no regular file"),
        (".", "it is a folder"),
        ("out.jsonl.zst", "zstd, as its name says, is not written"),
    ):
        with pytest.raises((ConfigError, StorageError), match=says):
            segment.segment_file("punctuation_v1", [], source, output)
    segment.segment_file("punctuation_v1", [], source, "memory://segments/ends.jsonl")
    assert json.loads(Folder("memory://segments").read("ends.jsonl") or b"") == {"id": 1, "ends": [2]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "pipe"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *({"id": i, "text": "A. B."} for i in range(9000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(ConfigError, match=r"cannot write .*out.jsonl: File too large"):
            segment.segment_file("punctuation_v1", [], source, tmp_path / "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("punctuation_v1", "line_breaks=maybe"),
        ("punctuation_v1", "line_breaks=0"),
        ("fixed_v1", "num_tokens=2.5"),
        ("fixed_v1", "num_tokens=true"),
        ("learned_v1", "threshold=null"),
        ("learned_v1", "weights=7"),
    ],
)
def test_an_option_of_another_type_is_refused(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match="must be of type"):
        segment.build(name, [option])
    assert segment.build("learned_v1", ["max_sentence_tokens=null"]) == segment.build("learned_v1", [])
