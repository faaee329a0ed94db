"""Formats and compressions are recognised by content and name, and give the same documents."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import find_sources, survey_all
from pipeline.errors import CorpusError
from tests.pipeline.corpus.corpora import JSONL, PACK, ROWS, content_of, texts

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
