"""The workers of `sllm prepare`: in this process, in several processes of this machine, or on Ray (`cluster.tasks`)."""

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from infra.cluster.connection import is_cluster_given
from pipeline.config import Config
from pipeline.errors import SllmError
from pipeline.shards.prepare import Workers
from pipeline.shards.worker import Worker

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")


class ProcessLostError(SllmError):
    """A worker process of this machine died."""


class LocalWorkers(Generic[W]):
    """One worker, in this process."""

    def __init__(self, worker: W) -> None:
        self._worker = worker

    def map(self, work: Callable[[W, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work(worker, item)` for each item; yields (item, result)."""
        for item in items:
            yield item, work(self._worker, item)

    def close(self) -> None:
        """Nothing to stop."""


class ProcessWorkers(Generic[W]):
    """One worker in each of several processes, which are forked from a server process with all imports."""

    def __init__(self, make_worker: Callable[[], W], num_workers: int, imports: list[str]) -> None:
        """`imports`: modules that the server imports once for all processes."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(imports)
        self._num_workers = num_workers
        self._pool = ProcessPoolExecutor(num_workers, context, _start, (make_worker,))

    def map(self, work: Callable[[W, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work(worker, item)` for each item; yields (item, result) in the order of completion.

        `work` is a function that other processes can import, such as a method of the worker's class. Raises the errors
        of the work, and `ProcessLostError` where a process dies.
        """
        waiting = iter(items)
        busy: dict[Future[R], T] = {}
        while True:
            # One more item than workers, so that no worker waits for this process.
            for item in itertools.islice(waiting, self._num_workers + 1 - len(busy)):
                busy[self._pool.submit(_call, work, item)] = item
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                item = busy.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    raise ProcessLostError(
                        "a worker process died (out of memory?); what is finished stays: run again, with smaller "
                        "prepare.work_unit_bytes or fewer prepare.num_workers"
                    ) from error
                yield item, result

    def close(self) -> None:
        """Stop the processes after their current items."""
        self._pool.shutdown(cancel_futures=True)


_worker: Any = None


def _start(make_worker: Callable[[], Any]) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = make_worker()


def _call(work: Callable[[Any, T], R], item: T) -> R:
    return work(_worker, item)


def runs_on_ray(config: Config) -> bool:
    """Whether work that is not training runs on Ray: if `launcher` says so, or it is `auto` and a cluster is given."""
    return config.launcher == "ray" or (config.launcher == "auto" and is_cluster_given(config.ray))


def start_workers(config: Config, here: Worker, elsewhere: Callable[[], Worker]) -> Workers:
    """`prepare.num_workers` workers of this `launcher`; `auto` is Ray only if a cluster is given.

    `here`: the worker of this process; `elsewhere`: makes a worker in another process.
    """
    if runs_on_ray(config):
        from infra.cluster.connection import connect
        from infra.cluster.tasks import RayWorkers

        connect(config.ray)
        return RayWorkers(elsewhere, config.prepare.num_workers)
    if config.prepare.num_workers == 1:
        return LocalWorkers(here)
    return ProcessWorkers(elsewhere, config.prepare.num_workers, imports=[__name__])
