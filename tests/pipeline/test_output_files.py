"""Random folders with files, folders and links of others: a job's own files are known, and nothing else is touched."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lineage import content_files, digest_folder
from pipeline.output_files import (
    FILES,
    foreign_entries,
    half_written,
    in_the_way,
    is_of_job,
    other_checkpoints,
    remove_checkpoints,
    remove_written,
    write_whole,
    written_aside,
    written_files,
)

NAMES = st.sampled_from(
    ["notes.txt", "link", "config.json", "model.safetensors", "train-00000.arrow", "tokenizer", "manifest.json",
     "checkpoints", "step-000000001", "progress", "tokenizer.json", "training_state.json", "x", ".hidden", "job.json"]
)  # fmt: skip
TARGETS = st.sampled_from([".", "..", "../precious", "missing", "config.json", "x", "../precious/secret"])
TREES = st.recursive(
    st.binary(max_size=3) | TARGETS, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def build(folder: Path, tree) -> None:
    """Bytes are files, texts are links, dictionaries folders."""
    folder.mkdir(exist_ok=True)
    for name, inside in tree.items():
        path = folder / name
        if isinstance(inside, bytes):
            path.write_bytes(inside)
        elif isinstance(inside, str):
            path.symlink_to(inside)
        else:
            build(path, inside)


def state(folder: Path):
    """All that is below a folder: content of files, targets of links."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in (*files, *folders):
            path = Path(where, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = str(path.readlink())
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def root():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@given(tree=TREES, kind=st.sampled_from(sorted(FILES)))
def test_what_was_not_written_stays(root, tree, kind):
    shutil.rmtree(root)
    root.mkdir()
    build(root / "precious", {"secret": b"1", "config.json": b"2", "tokenizer.json": b"3"})
    build(root / "out", tree)
    before = state(root)
    names = written_files(root / "out", kind)
    remove_written(root / "out", names)
    remove_checkpoints(root / "out")
    after = state(root)
    assert {name: before[name] for name in after} == after
    gone = {name.removeprefix("out/") for name in before.keys() - after.keys()}
    assert gone >= set(names)
    for name in gone:
        assert isinstance(before[f"out/{name}"], bytes)  # no link
        assert (
            is_of_job(name, kind) or name.startswith("checkpoints/step-") or name.startswith("checkpoints/.")
        )


@given(tree=TREES, kind=st.sampled_from(sorted(FILES)))
def test_a_job_begins_only_where_it_writes_over_nothing(root, tree, kind):
    """Write all that a job may write: where neither is anything in the way, all that was there is as it was."""
    shutil.rmtree(root)
    root.mkdir()
    build(root / "precious", {"secret": b"1", "config.json": b"2", "tokenizer.json": b"3"})
    build(root / "out", tree)
    if list(in_the_way(root / "out", kind, ())):
        return
    before = state(root)
    for pattern in (*FILES[kind], "job.json"):
        path = root / "out" / pattern.replace("[0-9]*", "00007").replace("*", "00001")
        if (path.name == "python-docs.jsonl" and path.exists()) or (pattern == "job.json" and path.exists()):
            continue
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"new")
    after = state(root)
    assert {name: after[name] for name in before} == before
    new = {name.removeprefix("out/") for name in after.keys() - before.keys()} - {"job.json"}
    assert new <= set(written_files(root / "out", kind))


@given(tree=TREES)
def test_folders_with_links_to_themselves_end(root, tree):
    shutil.rmtree(root)
    root.mkdir()
    build(root / "out", tree)
    digest_folder(root / "out")
    assert all((root / "out" / name).is_file() for name in content_files(root / "out"))


def test_two_links_to_their_own_folder_end(tmp_path):
    build(tmp_path / "out", {"a": ".", "b": ".", "c": {"d": "..", "e": b"1"}})
    assert list(content_files(tmp_path / "out")) == ["c/e"]


def test_what_is_foreign(tmp_path):
    build(
        tmp_path / "out",
        {
            "notes.txt": b"", "link": "../x", "data": {"more": {"a.txt": b""}}, "empty": {"b": {}},
            ".hidden": b"", "mlflow.db": b"", "artifacts": {"a": b""}, "lm": {"job.json": b"{}", "b": b""},
            "corpus": {"a.jsonl": b"", "README.md": b""}, "in.txt": b"", "config.json": b"",
        },
    )  # fmt: skip
    inputs = [str(tmp_path / "out" / "corpus" / "a.jsonl"), str(tmp_path / "out" / "in.txt")]
    foreign = list(foreign_entries(tmp_path / "out", "model", inputs))
    assert foreign == ["data/more/a.txt", "link", "notes.txt"]
    assert list(in_the_way(tmp_path / "out", "model", ())) == ["config.json"]


def test_checkpoints_of_others_are_listed_and_left(tmp_path):
    mine = {
        "training_state.json": b"",
        "state-00000-of-00001.safetensors": b"",
        "model": {"config.json": b""},
    }
    build(
        tmp_path / "out",
        {
            "checkpoints": {
                "step-000000001": {**mine, "notes.txt": b"n"}, "step-000000002": mine, "best": mine,
                "latest": "step-000000002", ".step-000000003.partial": mine, "notes.txt": b"n",
            }
        },
    )  # fmt: skip
    out = tmp_path / "out"
    assert sorted(other_checkpoints(out, fresh=False)) == ["checkpoints/best", "checkpoints/latest"]
    assert len(list(other_checkpoints(out, fresh=True))) == 5
    remove_checkpoints(out)
    left = state(out / "checkpoints")
    assert set(left) == {
        "step-000000001/notes.txt", "latest", "notes.txt",
        "best/training_state.json", "best/state-00000-of-00001.safetensors", "best/model/config.json",
    }  # fmt: skip


NAME = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
)


@given(name=NAME, data=st.binary(max_size=9))
def test_a_file_is_written_whole_and_its_half_is_known_by_name(name, data):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "below" / name
        if path.name in ("", ".", ".."):
            return
        write_whole(path, b"old")
        write_whole(path, memoryview(data))
        with written_aside(path) as aside:
            aside.write_bytes(b"half")
            assert path.read_bytes() == data
            assert half_written(aside.relative_to(root).as_posix()) == path.relative_to(root).as_posix()
        assert path.read_bytes() == b"half" and list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), written_aside(tmp_path / "a") as aside:
        aside.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [tmp_path / "a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("tokenizer/tokenizer.json.17.partial", "tokenizer/tokenizer.json"),  # of an earlier version
        (".train-00000.arrow.17-140.partial", "train-00000.arrow"),
        ("film.partial", None),
        ("train-00000.arrow", None),
        ("a.x17.partial", None),
    ],
)
def test_half_written_files_are_known_by_their_names(name, whole):
    assert half_written(name) == whole
