"""A generator on a worker: its items, warnings and errors come to the driver; a worker that dies is replaced."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cluster.streamed import streamed
from infra.dispatch import WorkerLostError
from pipeline.config import RayConfig
from pipeline.errors import ModelError

RAY = RayConfig()


def numbers(count: int) -> Iterator[int]:
    yield os.getpid()
    logging.getLogger("sllm").warning("warning: only numbers")
    yield from range(count)


def fail_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise ModelError("no more numbers")


def die_once(marker: Path, same: bool) -> Iterator[int]:
    first = not marker.exists()
    for number in range(5):
        if number == 3 and first:
            marker.touch()
            os._exit(1)
        yield number if same or first else -number


def die() -> Iterator[int]:
    yield 0
    os._exit(1)


def test_items_and_warnings_come_from_another_process(
    ray_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    pid, *items = streamed(RAY, numbers, 3)
    assert items == [0, 1, 2] and pid != os.getpid()
    assert caplog.messages == ["warning: only numbers"]


def test_an_error_comes_as_it_is_after_the_items_before_it(ray_cluster: str) -> None:
    items = streamed(RAY, fail_after, 2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ModelError, match=r"^no more numbers$"):
        next(items)


def test_a_dead_worker_is_replaced_and_each_item_comes_once(ray_cluster: str, tmp_path: Path) -> None:
    assert list(streamed(RAY, die_once, tmp_path / "same", True)) == [0, 1, 2, 3, 4]
    assert (tmp_path / "same").exists()
    with pytest.raises(WorkerLostError, match="does not come to the same results"):
        list(streamed(RAY, die_once, tmp_path / "other", False))


def test_work_that_kills_every_worker_is_given_up(ray_cluster: str) -> None:
    items = streamed(RAY, die)
    assert next(items) == 0
    with pytest.raises(WorkerLostError, match="3 workers died one after the other"):
        next(items)
