import os

import pytest

from infra.cluster.connection import is_cluster_given
from infra.workers import LocalWorkers, ProcessLostError, ProcessWorkers, start_workers
from pipeline.config import load_config
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


def test_one_worker_is_of_this_process_and_several_have_their_own() -> None:
    def elsewhere() -> None:
        raise AssertionError("no other process was asked for")

    here: object = object()
    one = start_workers(load_config(None, ["launcher=local", "prepare.num_workers=1"]), here, elsewhere)
    assert isinstance(one, LocalWorkers)
    assert list(one.map(lambda worker, item: (worker is here, item), [3])) == [(3, (True, 3))]
    several = start_workers(load_config(None, ["launcher=local", "prepare.num_workers=2"]), here, object)
    several.close()
    assert isinstance(several, ProcessWorkers)


def test_ray_is_used_only_where_a_cluster_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert load_config(None).launcher == "auto"
    assert not is_cluster_given(load_config(None).ray)
    assert is_cluster_given(load_config(None, ["ray.address=auto"]).ray)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as in a submitted job
    assert is_cluster_given(load_config(None).ray)
