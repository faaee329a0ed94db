"""Checksums of local shards: compared when they are first read, once on a machine, in a thread where they are large."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ShardError
from pipeline.shards import verification
from pipeline.shards.manifest import ShardRecord
from pipeline.shards.reading import Shards, open_shards
from pipeline.shards.verification import damaged_shards
from tests.pipeline.shards.test_reading import copy, folder  # noqa: F401 - a fixture

DAMAGED = "train-00001.arrow"


@pytest.fixture
def root(folder: Path, tmp_path: Path) -> Path:  # noqa: F811
    """Shards, one of which has a flipped bit in a token id: their form is whole."""
    root = copy(folder, tmp_path / "a")
    content = bytearray((root / DAMAGED).read_bytes())
    whole = open_shards(str(root)).documents("train", [1]).tokens(0, 3).tobytes()
    content[content.index(whole)] ^= 1
    (root / DAMAGED).write_bytes(content)
    return root


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the files that are compared."""
    names: list[str] = []
    compare = verification._compare

    def noted(path: Path, record: ShardRecord) -> None:
        names.append(path.name)
        compare(path, record)

    monkeypatch.setattr(verification, "_compare", noted)
    yield names


def test_small_shards_are_compared_before_they_are_read(root: Path) -> None:
    with pytest.raises(ShardError, match=f"{DAMAGED} is damaged: its checksum.*makes just this shard anew"):
        open_shards(str(root)).documents("train")
    open_shards(str(root)).documents("train", [0])
    open_shards(str(root), verify=False).documents("train")


def test_each_shard_is_compared_once(folder: Path, compared: list[str]) -> None:  # noqa: F811
    shards = open_shards(str(folder))
    for _ in range(3):
        shards.documents("train")
        shards.documents("train", [0])
    assert sorted(compared) == [record.file for record in shards.records("train")]


def test_the_ranks_of_a_machine_share_the_work(
    folder: Path,  # noqa: F811
    compared: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        open_shards(str(folder)).documents("train")
    assert sorted(compared) == [record.file for record in open_shards(str(folder)).records("train")]


def test_large_shards_are_compared_while_they_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "AT_ONCE_BYTES", 0)
    let_go = threading.Event()
    digest_file = verification.digest_file

    def slow(path: Path) -> str:
        assert let_go.wait(60)
        return digest_file(path)

    monkeypatch.setattr(verification, "digest_file", slow)
    shards = open_shards(str(root))
    documents = shards.documents("train")
    documents.tokens(0, 3)  # it does not wait
    let_go.set()
    with pytest.raises(ShardError, match=f"{DAMAGED} is damaged: its checksum"):
        for _ in range(10**6):
            documents.tokens(0, 3)


def test_the_end_of_training_waits_for_what_is_not_compared_yet(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "AT_ONCE_BYTES", 0)
    shards = open_shards(str(root))
    shards.documents("train")
    with pytest.raises(ShardError, match=f"{DAMAGED} is damaged: its checksum"):
        shards.finish_verifying()
    whole: Shards = open_shards(str(root))
    whole.documents("dev")
    whole.finish_verifying()


def test_all_damaged_and_missing_ones_are_found(root: Path) -> None:
    shards = open_shards(str(root))
    (root / "dev-00000.arrow").unlink()
    assert [record.file for record in shards.damaged()] == [DAMAGED, "dev-00000.arrow"]
    done: list[ShardRecord] = []
    damaged_shards(shards.manifest.shards, lambda name: None, done.append)
    assert len(done) == len(shards.manifest.shards)
