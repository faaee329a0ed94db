"""What is read, known by what, and what is refused."""

import bz2
import functools
import gzip
import http.server
import json
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import Document, Rejection, WorkUnitReader, find_sources, plan_work_units, survey_all
from pipeline.corpus.file_names import path_on_disk, readable_path
from pipeline.errors import CorpusError

ROWS = [{"id": f"d{i}", "text": f"Text {i}, ünï 世界. {'x' * i}"} for i in range(30)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lz4": lz4,
}


def texts(said: list[str] | None = None, **options: Any) -> list[str]:
    data = DataConfig(**options)
    sources = find_sources(data, (said if said is not None else []).append)
    splits = plan_work_units(survey_all(sources, data, 400), data, 400)
    items = [item for split in splits for item in WorkUnitReader(data).read(split)]
    assert all(isinstance(item, Document) for item in items), items
    return [item.text for item in items if isinstance(item, Document)]


def content_of(format_: str) -> bytes:
    if format_ == "jsonl":
        return JSONL
    if format_ == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue().to_pybytes()
    if format_ == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.Table.from_pylist(ROWS).schema) as writer:
            writer.write_table(pa.Table.from_pylist(ROWS))
        return sink.getvalue().to_pybytes()
    delimiter = {"csv": ",", "tsv": "\t"}[format_]
    lines = [["id", "text"], *([row["id"], '"' + row["text"] + '"'] for row in ROWS)]
    return "".join(delimiter.join(line) + "\n" for line in lines).encode()


ODD = (
    "",
    ".00",
    ".part1",
    ".part-00003",
    ".2024-01-31",
    ".20240131",
    ".bak",
    "-00000-of-01024",
    " (1)",
    "~",
    ".aa",
)


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("format_", ["jsonl", "csv", "tsv", "parquet", "arrow"])
def test_every_format_compression_and_suffix_gives_the_same_documents(
    tmp_path: Path, format_: str, packed: str
) -> None:
    if packed and format_ in ("parquet", "arrow"):
        return
    content = PACK[packed](content_of(format_))
    for suffix in (format_, format_.upper()):
        for odd in ODD:
            for name in (f"a.{suffix}{packed}{odd}", f"a.{suffix}{odd}{packed}", f"v1.2.{suffix}{odd}"):
                file = tmp_path / name
                file.write_bytes(content)
                assert texts(inputs=(str(file),)) == [row["text"] for row in ROWS], name
                file.unlink()


@pytest.mark.parametrize("packed", [suffix for suffix in PACK if suffix])
def test_streams_joined_cut_and_damaged(tmp_path: Path, packed: str) -> None:
    file = tmp_path / f"a.jsonl{packed}"
    half = JSONL.index(b"\n", 500) + 1
    joined = PACK[packed](JSONL[:half]) + PACK[packed](JSONL[half:])
    file.write_bytes(joined)
    assert texts(inputs=(str(file),)) == [row["text"] for row in ROWS]
    for broken in (joined[:-7], joined + b"garbage at the end", joined[:-20] + b"x" * 20):
        file.write_bytes(broken)
        with pytest.raises(CorpusError, match=r"a\.jsonl.*(truncated|damaged)"):
            texts(inputs=(str(file),))


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


@pytest.mark.parametrize(
    "text",
    [
        "{curly} starts this prose.",
        '{"quoted"} is how it starts.',
        "[1] A reference.\n[2] Another.",
        "[section]\nkey = 1\n",
        "{% include 'x' %}\n",
        "SUPPORT WEBP and DUCK and ORC.",
        "PAR1 is a name.",
        "ORC\nand more",
        '{"a": 1} is how an answer begins.\nThe rest is prose.',
        '{"a": 1}{"b": 2}\nThe rest is prose.\nAnd more of it.',
        '{"a": 1}\nis an answer.',
        "text, too, may begin a line.\nAnd end it.",
    ],
)
def test_plain_text_stays_plain_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    (tmp_path / "b.txt").write_text(text)
    assert texts(inputs=(str(tmp_path),)) == [text, text]


def test_content_decides_where_the_name_says_nothing_or_something_else(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "none").write_bytes(JSONL)
    assert len(texts(said, inputs=(str(tmp_path / "none"),))) == 30 and not said
    (tmp_path / "a.jsonl.gz").write_bytes(JSONL)  # a web client has uncompressed it
    assert len(texts(said, inputs=(str(tmp_path / "a.jsonl.gz"),))) == 30
    assert "not compressed" in said.pop()
    (tmp_path / "b.jsonl").write_bytes(content_of("parquet"))
    assert len(texts(said, inputs=(str(tmp_path / "b.jsonl"),))) == 30
    assert "is Parquet" in said.pop()
    (tmp_path / "c.txt").write_bytes(JSONL)
    assert texts(inputs=(str(tmp_path / "c.txt"),), format="text") == [JSONL.decode()]
    assert len(texts(inputs=(str(tmp_path / "c.txt"),), format="jsonl")) == 30
    (tmp_path / "d.csv").write_text("id;text\n1;a, b\n")
    assert texts(inputs=(str(tmp_path / "d.csv"),), delimiter=";") == ["a, b"]
    # One damaged line at the start is rejected as any other.
    (tmp_path / "e.jsonl").write_bytes(JSONL.replace(b"\n", b"", 1) + JSONL)
    assert find_sources(DataConfig(inputs=(str(tmp_path / "e.jsonl"),)))[0].format == "jsonl"


def test_links(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    (real / "deep").mkdir(parents=True)
    (real / "deep/a.txt").write_text("A.")
    root = tmp_path / "in"
    root.mkdir()
    (root / "b.txt").write_text("B.")
    (root / "linked").symlink_to(real)
    (root / "z_again").symlink_to(real / "deep")
    (real / "up").symlink_to(root)
    (root / "b_again.txt").symlink_to(root / "b.txt")
    said: list[str] = []
    assert texts(said, inputs=(str(root),)) == ["B.", "A."]
    assert "b_again.txt" in said[0] and "linked/up" in said[0] and "z_again" in said[0]
    assert texts([], inputs=(f"{root}/**/*.txt",)) == ["B.", "A."]
    with pytest.raises(CorpusError, match="twice"):
        texts([], inputs=(str(root / "b.txt"),), dev_inputs=(str(root / "b_again.txt"),))
    (root / "gone.txt").symlink_to("nowhere.txt")
    for given_ in (root, root / "gone.txt", f"{root}/*.txt"):
        with pytest.raises(CorpusError, match=r"gone\.txt.*link to 'nowhere\.txt', which is missing"):
            texts([], inputs=(str(given_),))


def test_links_that_multiply_paths_take_no_time(tmp_path: Path) -> None:
    for depth in range(30):
        (tmp_path / f"d{depth}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"d{depth}/{name}").symlink_to(tmp_path / f"d{depth + 1}")
    (tmp_path / "d30").mkdir()
    (tmp_path / "d30/x.txt").write_text("X.")
    assert texts([], inputs=(str(tmp_path / "d0"),)) == ["X."]


def test_metadata_files_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("_SUCCESS", "part.jsonl.crc", "x_$folder$", "empty.jsonl"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "_metadata").write_bytes(content_of("parquet"))
    for name in ("README.md", "LICENSE", "dataset_infos.json", "Thumbs.db"):
        (tmp_path / name).write_text('{\n "x": 1\n}' if name.endswith("json") else "About it.")
    (tmp_path / "part.jsonl").write_bytes(JSONL)
    said: list[str] = []
    assert len(texts(said, inputs=(str(tmp_path),))) == 30
    assert len(said) == 1 and all(file.name in said[0] for file in tmp_path.iterdir() if file.name < "e")
    assert len(texts(said, inputs=(f"{tmp_path}/*",))) == 30
    assert texts(inputs=(str(tmp_path / "README.md"),)) == ["About it."]
    for folder in ("x", "y"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
        (tmp_path / "docs" / folder / "README.md").write_text(folder)
    assert texts(inputs=(str(tmp_path / "docs"),)) == ["x", "y"]


@pytest.mark.parametrize("where", ["local", "url"])
def test_what_writers_leave_in_folders_of_their_own_is_left_out(tmp_path: Path, where: str) -> None:
    root = str(tmp_path) if where == "local" else f"memory://{tmp_path.name}-{where}"
    for name in (
        "a.jsonl",
        "_temporary/0/a.jsonl",
        "deep/_temporary/1/b.jsonl",
        "_delta_log/0.json",
        "__MACOSX/a.jsonl",
    ):
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as file:
            file.write(JSONL)
    for name in ("notes.txt", "README.md", "LICENSE.txt", "checksums.txt"):
        with fsspec.open(f"{root}/{name}", "wb") as file:
            file.write(b"Some text.")
    said: list[str] = []
    assert texts(said, inputs=(root,)) == [row["text"] for row in ROWS] + ["Some text."]
    assert len(said) == 2 and all(
        name in said[0] for name in ("7 x", "_temporary/0", "README.md", "LICENSE.txt")
    )
    assert (
        "several formats, all of which are read: 1 x JSON lines (a.jsonl); 1 x plain text (notes.txt)"
        in said[1]
    )
    assert len(texts([], inputs=(f"{root}/_temporary",))) == 30


def test_csv_of_a_header_alone(tmp_path: Path) -> None:
    for content in ("id,text", "id,text\n", "id,text\r\n\r\n", "\ufeffid,text\r"):
        (tmp_path / "h.csv").write_text(content)
        notes: list[str] = []
        assert texts(notes, inputs=(str(tmp_path / "h.csv"),)) == []
        assert (
            len(notes) == 1 and "only the header line of its columns and no rows; make it again" in notes[0]
        )
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    said: list[str] = []
    assert texts(said, inputs=(str(tmp_path),)) == ["a"] and "only a header line (h.csv)" in said[0]
    (tmp_path / "h.csv").write_text("1,a row")
    with pytest.raises(CorpusError, match=r"h\.csv.*no column 'text'"):
        texts([], inputs=(str(tmp_path),))
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(CorpusError, match=r"e\.csv.*is empty"):
        texts(inputs=(str(tmp_path / "e.csv"),))


def test_urls_with_queries(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(JSONL)
    (tmp_path / "download").write_bytes(gzip.compress(JSONL))
    handler = functools.partial(_Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server_url = f"http://127.0.0.1:{server.server_port}"
        for query in ("", "?download=true", "?u=https://x/y.zip&e=.parquet", "?x=a::b", "?q=[1]*", "?a#part"):
            url = f"{server_url}/a%20b.jsonl{query}"
            assert [one.name for one in find_sources(DataConfig(inputs=(url,)))] == ["a b.jsonl"]
            assert texts([], inputs=(url,)) == [row["text"] for row in ROWS]
        assert len(texts([], inputs=(f"{server_url.upper()}/download?file=a.zip",))) == 30
        with pytest.raises(CorpusError, match="there is no such file"):
            texts(inputs=(f"{server_url}/none.jsonl?x=1",))
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_data_set_saved_to_disk_needs_no_prefix(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "plain")
    (tmp_path / "plain/cache-1.arrow").write_bytes(content_of("arrow"))
    assert texts([], inputs=(str(tmp_path / "plain"),)) == [row["text"] for row in ROWS]
    datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "both")
    with pytest.raises(CorpusError, match=r"splits 'train', 'test'.*data\.inputs"):
        texts([], inputs=(str(tmp_path / "both"),))
    assert len(texts([], inputs=(str(tmp_path / "both/train"),))) == 30


@given(st.binary(min_size=1, max_size=20))
def test_names_of_any_bytes_have_a_text_of_their_own(name: bytes) -> None:
    name = name.replace(b"\0", b"x").replace(b"/", b"y")
    if name in (b".", b".."):
        return
    text = readable_path(os.fsdecode(name))
    text.encode()
    assert os.fsencode(path_on_disk(text)) == name


def test_a_name_that_is_no_utf8_is_read_and_written_as_an_escape(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("Coffee.")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.arrow")).write_bytes(content_of("arrow"))
    sources = find_sources(DataConfig(inputs=(str(tmp_path),)))
    assert [source.name for source in sources] == ["caf\\xe9.arrow", "caf\\xe9.txt"]
    assert texts(inputs=(str(tmp_path),))[-1] == "Coffee."
    assert texts(inputs=(sources[1].path,)) == ["Coffee."]


@pytest.mark.parametrize("launcher", ["processes", "one process"])
def test_prepare_in_the_c_locale(tmp_path: Path, launcher: str) -> None:
    corpus = tmp_path / "世界"
    corpus.mkdir()
    Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9.txt")).write_text("Coffee. And tea.")
    (corpus / "ünï.jsonl").write_bytes(JSONL + b'{"id": "b\xc3\xa4d", "text": 5}\n')
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    overrides = [
        f"data.inputs=[{corpus}]",
        f"output={tmp_path}/ö",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        "launcher=local",
        "tokenizer.vocab_size=300",
        "data.max_rejected_fraction=0.2",
        f"prepare.num_workers={1 if launcher == 'one process' else 2}",
    ]
    command = [sys.executable, "-m", "jobs", "prepare", *overrides, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert json.loads(done.stdout.decode())["output"]["path"].endswith("ö")
    manifest = json.loads((tmp_path / "ö/manifest.json").read_bytes())
    assert [file["name"] for file in manifest["identity"]["inputs"]] == ["caf\\xe9.txt", "ünï.jsonl"]


SUFFIXES = st.sampled_from(
    [
        "jsonl",
        "json",
        "csv",
        "tsv",
        "parquet",
        "arrow",
        "txt",
        "gz",
        "zst",
        "bz2",
        "xz",
        "lz4",
        "zip",
        "00",
        "part1",
        "aa",
        "html",
        "conllu",
    ]
)
STARTS = st.sampled_from(
    [
        b"",
        b"{",
        b"[",
        b'{"text": "a"}\n',
        b"PAR1",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff\x40\0\0\0\x10\0\0\0",
        b"id,text\n",
    ]
    + [pack(JSONL) for pack in PACK.values()]
    + [pack(JSONL)[:40] for pack in PACK.values()]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(SUFFIXES, max_size=4), STARTS, st.binary(max_size=300), st.booleans())
def test_any_bytes_under_any_name_end_in_documents_or_in_an_error_of_ours(
    suffixes: list[str], start: bytes, rest: bytes, is_folder: bool
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, ".".join(["a", *suffixes]))
        file.write_bytes(start + rest)
        data = DataConfig(inputs=(folder if is_folder else str(file),))
        try:
            survey_all(find_sources(data, lambda line: None), data, 100)
        except CorpusError as error:
            assert "\n" not in str(error)


def items(root: Path, name: str, content: bytes, **options: Any) -> list[Document | Rejection]:
    (root / name).write_bytes(content)
    data = DataConfig(inputs=(str(root / name),), **options)
    surveys = survey_all(find_sources(data, [].append), data, 400)
    return [one for split in plan_work_units(surveys, data, 400) for one in WorkUnitReader(data).read(split)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json-seq", "a", "a.jsonl.gz"])
def test_json_text_sequences_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"".join(b"\x1e" + line + b"\n" for line in JSONL.splitlines()))
    assert texts(inputs=(str(tmp_path / name),)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("name", ["a.jsonl", "a"])
def test_files_with_byte_order_marks_that_were_joined(tmp_path: Path, name: str) -> None:
    mark = b"\xef\xbb\xbf"
    line = JSONL.splitlines()[0] + b"\n"
    (tmp_path / name).write_bytes(mark + line + mark + line + mark + mark + line)
    assert texts(inputs=(str(tmp_path / name),)) == [ROWS[0]["text"]] * 3
    *_, joined = items(tmp_path, "joined.jsonl", line * 2 + line[:-1] + mark + line)
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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv"])
def test_utf16_without_a_byte_order_mark_is_recognised(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_bytes("id,text\n1,Some text of a line.\n".encode(encoding))
    with pytest.raises(CorpusError, match=f"set data.encoding={encoding}"):
        texts(inputs=(str(tmp_path / name),))
    if name == "a.csv":
        assert texts(inputs=(str(tmp_path / name),), encoding=encoding) == ["Some text of a line."]


def test_backups_and_unfinished_files_are_left_out_of_folders(tmp_path: Path) -> None:
    others = (
        "a.jsonl~",
        "#a.jsonl#",
        "a.jsonl.bak",
        "b.jsonl.tmp",
        "c.jsonl.part",
        "d.jsonl.crdownload",
        "e.LOCK",
    )
    for name in ("a.jsonl", *others):
        (tmp_path / name).write_bytes(JSONL)
    said: list[str] = []
    assert len(texts(said, inputs=(str(tmp_path),))) == len(ROWS)
    assert len(said) == 1 and all(name in said[0] for name in ("7 x backup or unfinished file", *others))
    assert len(texts([], inputs=(str(tmp_path / "a.jsonl.bak"),))) == len(ROWS)


def test_values_that_are_no_objects_and_long_numbers_say_what_to_do(tmp_path: Path) -> None:
    array, string, number, long = items(tmp_path, "a.jsonl", b'["a"]\n"b"\n3\n{"id": ' + b"9" * 5000 + b"}\n")
    assert [one.detail for one in (array, string, number) if isinstance(one, Rejection)] == [
        f'it is {kind}; write {{"text": ...}}' for kind in ("an array", "a string", "a bare value")
    ]
    assert isinstance(long, Rejection) and long.detail == "a number in it is too long to read"


@pytest.mark.parametrize("encoding", ["rot13", "hex", "idna", "undefined", "base64", "none"])
def test_what_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="there is no text encoding"):
        DataConfig(encoding=encoding)
