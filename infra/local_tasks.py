"""Work done on this machine without Ray, in this process or in several: the same interface as `ray_tasks`."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pipeline.errors import SllmError


class ProcessLostError(SllmError):
    """A process of this machine that died at its work."""


class LocalWorkers:
    """One worker, here."""

    def __init__(self, make_worker: Callable[[], Any]) -> None:
        self._worker = make_worker()

    def map(self, method: str, items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Call `method(item, *shared)` of the worker for each item; yields (item, result)."""
        for item in items:
            yield item, getattr(self._worker, method)(item, *shared)

    def close(self) -> None:
        """Nothing to stop."""


class ProcessWorkers:
    """A worker in each of several processes, which are forked from a server that has imported what they need."""

    def __init__(self, make_worker: Callable[[], Any], num_workers: int, imports: list[str]) -> None:
        """`imports` are modules that the server imports once for all of them."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(imports)
        self._num_workers = num_workers
        self._pool = ProcessPoolExecutor(num_workers, context, _start, (make_worker,))

    def map(self, method: str, items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Call `method(item, *shared)` of a worker for each item; yields (item, result) as they are done.

        Raises what the work raises, and `ProcessLostError` where a process dies.
        """
        waiting = iter(items)
        busy: dict[Future[Any], Any] = {}
        while True:
            # One item more than workers, so that none waits for this process.
            while len(busy) <= self._num_workers and (item := next(waiting, _NONE)) is not _NONE:
                busy[self._pool.submit(_call, method, item, shared)] = item
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
        """Stop the processes when they have done what they are at."""
        self._pool.shutdown(cancel_futures=True)


_NONE = object()
_worker: Any = None


def _start(make_worker: Callable[[], Any]) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = make_worker()


def _call(method: str, item: Any, shared: tuple[Any, ...]) -> Any:
    return getattr(_worker, method)(item, *shared)
