import os
from pathlib import Path

import pytest

from infra.cluster.tasks import RayWorkers, WorkerLostError
from pipeline.errors import CorpusError


class Worker:
    """Squares numbers; other methods fail, or end the process."""

    def square(self, item: int) -> int:
        return item * item

    def fail(self, item: int) -> None:
        raise CorpusError(f"item {item} is bad")

    def die_once(self, marker: Path) -> Path:
        if int(marker.name) % 3 == 0 and not marker.exists():
            marker.touch()
            os._exit(1)
        return marker

    def die(self, item: int) -> None:
        os._exit(1)


@pytest.fixture(scope="module")
def workers(ray_cluster: str):
    # More than the cluster has cores: some workers wait for one, the work does not.
    workers = RayWorkers(Worker, num_workers=3)
    yield workers
    workers.close()


def test_every_item_is_done_once(workers: RayWorkers) -> None:
    assert sorted(workers.map(Worker.square, range(20))) == [(i, i * i) for i in range(20)]
    assert list(workers.map(Worker.square, [])) == []


def test_an_error_of_the_work_comes_as_it_is(workers: RayWorkers) -> None:
    with pytest.raises(CorpusError, match=r"^item 3 is bad$"):
        list(workers.map(Worker.fail, [3]))
    assert list(workers.map(Worker.square, [2])) == [(2, 4)]


def test_a_dead_worker_is_replaced_and_its_item_done_again(workers: RayWorkers, tmp_path: Path) -> None:
    markers = [tmp_path / str(number) for number in range(7)]
    assert sorted(marker for marker, _ in workers.map(Worker.die_once, markers)) == markers


def test_work_that_kills_every_worker_is_given_up(workers: RayWorkers) -> None:
    with pytest.raises(WorkerLostError, match="died one after the other"):
        list(workers.map(Worker.die, [1]))
