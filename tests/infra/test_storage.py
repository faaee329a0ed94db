import errno
import hashlib
import pickle
import threading
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


def test_a_slow_store_is_told(monkeypatch: Any) -> None:
    folder, lines, told = Folder("memory://slow-store"), [], threading.Event()

    def warning(line: str) -> None:
        lines.append(line)
        told.set()

    monkeypatch.setattr("infra.storage.NOTICE_SECONDS", 0.01)
    monkeypatch.setattr("infra.storage.log.warning", warning)
    monkeypatch.setattr(folder._remote, "pipe_file", lambda path, content: told.wait(60))
    folder.write("a.arrow", b"x")
    assert lines == ["writing a.arrow to 'memory://slow-store' has taken 0.01 s and goes on"]
