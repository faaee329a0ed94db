import os
from pathlib import Path

import pytest

from infra.ray_tasks import RayWorkers, WorkerLostError
from pipeline.errors import CorpusError


class Worker:
    """Squares; may be told to fail or to die."""

    def square(self, item: int, offset: int) -> int:
        return item * item + offset

    def fail(self, item: int) -> None:
        raise CorpusError(f"item {item} is bad")

    def die_once(self, item: int, folder: str) -> int:
        marker = Path(folder, str(item))
        if item % 3 == 0 and not marker.exists():
            marker.touch()
            os._exit(1)
        return item

    def die(self, item: int) -> None:
        os._exit(1)


@pytest.fixture(scope="module")
def workers(ray_cluster: str):
    # More than the cluster has cores: those without a place wait, the work does not.
    workers = RayWorkers(Worker, num_workers=3)
    yield workers
    workers.close()


def test_every_item_is_done_once(workers: RayWorkers) -> None:
    assert sorted(workers.map("square", range(20), 1)) == [(i, i * i + 1) for i in range(20)]
    assert list(workers.map("square", [], 1)) == []


def test_an_error_of_the_work_comes_as_it_is(workers: RayWorkers) -> None:
    with pytest.raises(CorpusError, match=r"^item 3 is bad$"):
        list(workers.map("fail", [3]))
    assert list(workers.map("square", [2], 0)) == [(2, 4)]


def test_a_dead_worker_is_replaced_and_its_item_done_again(workers: RayWorkers, tmp_path: Path) -> None:
    assert sorted(item for item, _ in workers.map("die_once", range(7), str(tmp_path))) == list(range(7))


def test_work_that_kills_every_worker_is_given_up(workers: RayWorkers) -> None:
    with pytest.raises(WorkerLostError, match="died one after the other"):
        list(workers.map("die", [1]))
