import os

import pytest

from infra.local_tasks import LocalWorkers, ProcessLostError, ProcessWorkers
from pipeline.errors import CorpusError


class Worker:
    """Squares; may be told to fail or to die."""

    def square(self, item: int, offset: int) -> int:
        return item * item + offset

    def fail(self, item: int) -> None:
        raise CorpusError(f"item {item} is bad")

    def die(self, item: int) -> None:
        os._exit(1)


def test_here() -> None:
    assert list(LocalWorkers(Worker).map("square", range(4), 1)) == [(i, i * i + 1) for i in range(4)]


def test_in_processes() -> None:
    workers = ProcessWorkers(Worker, num_workers=2, imports=[])
    try:
        assert sorted(workers.map("square", range(9), 1)) == [(i, i * i + 1) for i in range(9)]
        with pytest.raises(CorpusError, match=r"^item 3 is bad$"):
            list(workers.map("fail", [3]))
        with pytest.raises(ProcessLostError, match="worker process died"):
            list(workers.map("die", [1]))
    finally:
        workers.close()
