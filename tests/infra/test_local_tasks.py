import os

import pytest

from infra.local_tasks import LocalWorkers, ProcessLostError, ProcessWorkers
from pipeline.errors import CorpusError


class Worker:
    """Squares numbers; other methods fail, or end the process."""

    def square(self, item: int) -> int:
        return item * item

    def fail(self, item: int) -> None:
        raise CorpusError(f"item {item} is bad")

    def die(self, item: int) -> None:
        os._exit(1)


def test_here() -> None:
    assert list(LocalWorkers(Worker()).map(Worker.square, range(4))) == [(i, i * i) for i in range(4)]


def test_in_processes() -> None:
    workers = ProcessWorkers(Worker, num_workers=2, imports=[])
    try:
        assert sorted(workers.map(Worker.square, range(9))) == [(i, i * i) for i in range(9)]
        with pytest.raises(CorpusError, match=r"^item 3 is bad$"):
            list(workers.map(Worker.fail, [3]))
        with pytest.raises(ProcessLostError, match="worker process died"):
            list(workers.map(Worker.die, [1]))
    finally:
        workers.close()
