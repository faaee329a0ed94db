import errno
import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from infra.storage import Folder, StorageError


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_files_by_name(scheme: str, tmp_path: Path) -> None:
    folder = Folder(f"{scheme}{tmp_path}/out")
    assert folder.names() == [] and folder.read("a/b") is None and folder.sha256("a/b") is None
    folder.write("a/b", b"one")
    folder.write("c", memoryview(b"two"))
    folder.write("c", b"three")
    assert folder.names() == ["a/b", "c"]
    assert folder.read("c") == b"three"
    assert folder.sha256("a/b") == hashlib.sha256(b"one").hexdigest()
    travelled = pickle.loads(pickle.dumps(folder))  # noqa: S301 - as a worker gets it
    assert travelled.read("c") == b"three"
    assert list(folder.lines("c")) == [b"three"] and list(folder.lines("missing")) == []
    folder.remove(["a/b", "c"])
    assert folder.names() == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: Any) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"a cannot be written.*No space left"):
        folder.write("a", b"new")
    assert folder.names() == ["a"] and folder.read("a") == b"old"
