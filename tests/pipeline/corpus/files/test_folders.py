"""Folders: links, files of metadata, backups and unfinished files."""

from pathlib import Path

import fsspec
import pytest

from pipeline.errors import CorpusError
from tests.pipeline.corpus.corpora import JSONL, ROWS, content_of, texts


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
