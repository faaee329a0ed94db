import os
import signal
import time
from pathlib import Path

import pytest

import infra.dispatch
from infra import workers as of_machine
from infra.cluster.connection import is_cluster_given
from infra.dispatch import WorkerLostError
from infra.workers import LocalWorkers, ProcessWorkers, num_cores, start_workers
from pipeline.config import load_config
from pipeline.errors import CorpusError


class Worker:
    """Squares numbers; other methods fail, wait, or end the process."""

    def square(self, item: int) -> int:
        return item * item

    def fail(self, item: int) -> None:
        raise CorpusError(f"item {item} is bad")

    def give_a_function(self, item: int) -> object:
        return lambda: item

    def die(self, item: int) -> None:
        os._exit(1)

    def die_once(self, marker: Path) -> Path:
        if int(marker.name) % 3 == 0 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return marker

    def lack_memory_once(self, marker: Path) -> Path:
        if not marker.exists():
            marker.touch()
            raise MemoryError
        return marker

    def stop_once(self, marker: Path) -> Path:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return marker

    def stop(self, item: int) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


def bad_worker() -> Worker:
    raise CorpusError("there is no such segmenter")


def dead_worker() -> Worker:
    os._exit(3)


@pytest.fixture(scope="module")
def workers():
    workers = ProcessWorkers(Worker, num_workers=2, imports=[__name__], time_limit=1.0)
    yield workers
    workers.close()


def test_here() -> None:
    assert list(LocalWorkers(Worker()).map(Worker.square, range(4))) == [(i, i * i) for i in range(4)]


def test_in_processes(workers: ProcessWorkers) -> None:
    assert sorted(workers.map(Worker.square, range(9))) == [(i, i * i) for i in range(9)]
    assert list(workers.map(Worker.square, [])) == []


def test_an_error_of_the_work_comes_as_it_is_and_leaves_nothing_behind(workers: ProcessWorkers) -> None:
    with pytest.raises(CorpusError, match=r"^item \d is bad$") as raised:
        list(workers.map(Worker.fail, [3, 4, 5]))
    assert "in fail" in str(raised.value.__cause__)  # where it was raised in the other process
    assert sorted(workers.map(Worker.square, [2, 3])) == [
        (2, 4),
        (3, 9),
    ]  # and no result of the earlier items
    with pytest.raises(RuntimeError, match="lambda"):
        list(workers.map(Worker.give_a_function, [1]))


def test_a_killed_process_is_replaced_and_its_item_done_again(
    workers: ProcessWorkers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    markers = [tmp_path / str(number) for number in range(5)]
    assert sorted(marker for marker, _ in workers.map(Worker.die_once, markers)) == markers
    said = capfd.readouterr().err
    assert said.count("warning: a worker is replaced (worker process ") == 2
    assert f"died, killed by SIGKILL); {markers[0]} is done again" in said


def test_a_process_without_memory_is_replaced_and_its_item_done_again(
    workers: ProcessWorkers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "0"
    assert list(workers.map(Worker.lack_memory_once, [marker])) == [(marker, marker)]
    assert "warning: a worker is replaced (out of memory)" in capfd.readouterr().err


def test_work_that_kills_every_worker_is_given_up(workers: ProcessWorkers) -> None:
    with pytest.raises(
        WorkerLostError, match=r"3 workers were lost one after the other at 1 \(.*exit code 1"
    ):
        list(workers.map(Worker.die, [1]))
    assert list(workers.map(Worker.square, [2])) == [(2, 4)]


def test_a_stopped_process_is_replaced_at_the_time_limit(workers: ProcessWorkers, tmp_path: Path) -> None:
    markers = [tmp_path / str(number) for number in range(2)]
    start = time.monotonic()
    assert sorted(marker for marker, _ in workers.map(Worker.stop_once, markers)) == markers
    assert time.monotonic() - start > 1.0


def test_a_unit_that_is_always_too_slow_is_given_up_and_the_error_names_the_key(tmp_path: Path) -> None:
    workers = ProcessWorkers(Worker, num_workers=1, imports=[__name__], time_limit=0.1)
    try:
        with pytest.raises(WorkerLostError, match=r"7 took over .* s on worker .*work_unit_timeout_seconds"):
            list(workers.map(Worker.stop, [7]))
    finally:
        workers.close()


def test_an_item_may_be_allowed_more_time() -> None:
    workers = ProcessWorkers(Worker, 1, imports=[__name__], time_limit=0.1, time_limits=lambda item: 1000.0)
    try:
        assert list(workers.map(Worker.wait, [1.5])) == [(1.5, 1.5)]
    finally:
        workers.close()


def test_a_line_says_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(infra.dispatch, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(infra.dispatch, "STEP_SECONDS", 0.1)
    workers = ProcessWorkers(Worker, num_workers=1, imports=[__name__])
    try:
        assert list(workers.map(Worker.wait, [0.0, 1.5])) == [(0.0, 0.0), (1.5, 1.5)]
    finally:
        workers.close()
    said = capfd.readouterr().err
    assert "waiting for 1.5 on worker process" in said
    assert said.count("no result for") < 12  # each after twice as long, though there is a look every 0.1 s


def test_workers_that_cannot_be_made(capfd: pytest.CaptureFixture[str]) -> None:
    workers = ProcessWorkers(bad_worker, num_workers=2, imports=[__name__])
    try:
        with pytest.raises(CorpusError, match=r"^there is no such segmenter$"):
            list(workers.map(Worker.square, [2]))
    finally:
        workers.close()
    workers = ProcessWorkers(dead_worker, num_workers=1, imports=[__name__])
    try:
        with pytest.raises(
            WorkerLostError, match=r"workers do not start: worker process \d+ died, exit code 3"
        ):
            list(workers.map(Worker.square, [2]))
    finally:
        workers.close()


def test_no_more_workers_start_than_there_are_items() -> None:
    workers = ProcessWorkers(Worker, num_workers=64, imports=[__name__])
    try:
        assert list(workers.map(Worker.square, [3])) == [(3, 9)]
        assert len(workers._idle) == 1
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


def test_by_default_there_is_a_worker_for_each_core_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(of_machine, "_CGROUP_QUOTA", tmp_path / "none")
    assert num_cores() == 12
    monkeypatch.setattr(of_machine, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    for quota, cores in (
        ("max 100000", 12),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9900000 100000", 12),
    ):
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
        assert num_cores() == cores
    started = start_workers(load_config(None, ["launcher=local"]), object(), object)
    started.close()
    assert isinstance(started, ProcessWorkers) and started.num_workers == 12


def test_ray_is_used_only_where_a_cluster_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert load_config(None).launcher == "auto"
    assert not is_cluster_given(load_config(None).ray)
    assert is_cluster_given(load_config(None, ["ray.address=auto"]).ray)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as in a submitted job
    assert is_cluster_given(load_config(None).ray)
