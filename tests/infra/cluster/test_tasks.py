import os
import signal
from pathlib import Path

import pytest

import infra.dispatch
from infra.cluster.tasks import RayWorkers, num_cluster_cores
from infra.dispatch import WorkerLostError
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

    def stop_once(self, marker: Path) -> Path:
        if not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return marker


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
    with pytest.raises(WorkerLostError, match="3 workers were lost one after the other at 1 "):
        list(workers.map(Worker.die, [1]))


def test_a_stopped_worker_is_killed_at_the_time_limit_and_its_core_is_free_again(
    workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "_time_limit", 1.0)
    markers = [tmp_path / str(number) for number in range(2)]  # one for each core
    assert sorted(marker for marker, _ in workers.map(Worker.stop_once, markers)) == markers
    for marker in markers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(marker.read_text()), 0)
    assert capfd.readouterr().err.count("is done again") == 2


def test_workers_that_cannot_be_made(workers: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad() -> Worker:
        raise CorpusError("there is no such segmenter")

    workers.close()  # new ones are started by the next call
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_make_worker", bad)
        with pytest.raises(CorpusError, match=r"^there is no such segmenter$"):
            list(workers.map(Worker.square, [2]))
    assert list(workers.map(Worker.square, [2])) == [(2, 4)]


def test_too_few_cores_are_told(workers: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_cluster_cores() == 2
    monkeypatch.setattr(infra.dispatch, "SILENT_SECONDS", 0.2)
    list(workers.map(Worker.square, range(20)))  # they have both cores now
    others = RayWorkers(Worker, num_workers=1)
    asked = []

    def ending(silent: float) -> str:
        asked.append(RayWorkers._what_is_waited_for(others, silent))
        raise TimeoutError  # it would wait for ever

    monkeypatch.setattr(others, "_what_is_waited_for", ending)
    with pytest.raises(TimeoutError):
        list(others.map(Worker.square, [2]))
    others.close()
    assert asked[0].endswith(
        "waiting for 1 workers to start (each needs 1 CPU, the cluster has 2 and 0 free)"
    )
