"""Items of work, one at a time, to workers that may die, stop answering or have to wait for a core.

Where a worker runs is known by the subclasses: a process of this machine (`workers`), or an actor (`cluster.tasks`).
"""

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import SllmError
from pipeline.printable import printable

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")

WORK_ATTEMPTS = 3
"""Attempts per item when its worker dies, lacks memory or exceeds the time limit; another error of the work is
final."""
START_ATTEMPTS = 3
"""Workers that may die one after the other while they start, without any progress in between."""
PREPARE_REMEDY = (
    "make prepare.work_unit_bytes smaller, start fewer prepare.num_workers, give workers more memory, or raise "
    "prepare.work_unit_timeout_seconds"
)
SILENT_SECONDS = 60.0
"""Seconds without a result before a line says what is waited for; the next one follows after twice as long."""
STEP_SECONDS = 1.0
"""Longest wait between two looks at the time limits."""


class WorkerLostError(SllmError):
    """An item at which workers died `WORK_ATTEMPTS` times, or workers that do not start."""


class WorkerDiedError(Exception):
    """A worker died; the message says what is known of the reason."""


@dataclass
class _Job:
    """An item that a worker has; `is_wanted` is False after the `map` that handed it out ended early."""

    item: Any
    attempt: int
    since: float
    is_wanted: bool = True


def _same_limit(item: object) -> float:
    return 1.0


class Dispatcher(ABC, Generic[W]):
    """Up to `num_workers` workers, started when there is work for them; the number of unfinished items is bounded."""

    def __init__(
        self,
        num_workers: int,
        remedy: str = PREPARE_REMEDY,
        time_limit: float | None = None,
        time_limits: Callable[[Any], float] = _same_limit,
    ) -> None:
        """`remedy`: what can be done when workers are lost at the same item again and again.

        `time_limit`: seconds for an item, after which its worker is killed and the item repeated; None: no limit.
        `time_limits`: how many times that an item may take."""
        self.num_workers, self._remedy = num_workers, remedy
        self._time_limit = time_limit
        self._time_limits = time_limits
        self._starting: list[Any] = []
        self._idle: list[Any] = []
        self._busy: dict[Any, _Job] = {}

    def map(self, work: Callable[[W, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work(worker, item)` for each item; yields (item, result) in the order of completion.

        `work` is a function that other processes can import, such as a method of the worker's class; `str(item)` names
        the item in messages. Raises the errors of the work, and `WorkerLostError` where workers die, or exceed the time
        limit, at the same item each time.
        """
        waiting = deque(_Job(item, 1, 0.0) for item in items)
        failed_starts, last_news, silence, looked = 0, time.monotonic(), SILENT_SECONDS, time.monotonic()
        try:
            while waiting or any(job.is_wanted for job in self._busy.values()):
                self._hand_out(work, waiting)
                worker = self._first_done([*self._busy, *self._starting], STEP_SECONDS)
                now = time.monotonic()
                if now - looked >= STEP_SECONDS:
                    looked = now
                    for late in self._late(now):
                        if late is not worker:
                            self._lose(late, self._too_slow(late), waiting)
                if worker is None:
                    if now - last_news > silence:
                        _say(self._what_is_waited_for(now - last_news))
                        silence *= 2
                    continue
                try:
                    result = self._receive(worker)
                except (WorkerDiedError, MemoryError) as error:
                    if worker in self._busy:
                        self._lose(worker, str(error) or "out of memory", waiting)
                        continue
                    self._starting.remove(worker)
                    self._kill(worker)
                    failed_starts += 1
                    if failed_starts >= START_ATTEMPTS:
                        raise WorkerLostError(f"workers do not start: {error}") from error
                    continue
                except Exception:
                    if worker in self._starting:
                        self._starting.remove(worker)
                        self._kill(worker)
                        raise
                    self._idle.append(worker)
                    if self._busy.pop(worker).is_wanted:
                        raise
                    continue
                failed_starts, last_news, silence = 0, now, SILENT_SECONDS
                self._idle.append(worker)
                if worker in self._starting:
                    self._starting.remove(worker)
                elif (job := self._busy.pop(worker)).is_wanted:
                    yield job.item, result
        finally:
            for job in self._busy.values():
                job.is_wanted = False

    def close(self) -> None:
        """Kill the workers; results of their current items are lost."""
        for worker in [*self._idle, *self._starting, *self._busy]:
            self._kill(worker)
        self._idle, self._starting, self._busy = [], [], {}

    def _hand_out(self, work: Callable[[W, T], R], waiting: "deque[_Job]") -> None:
        while waiting and self._idle:
            worker, job = self._idle.pop(), waiting.popleft()
            job.since = time.monotonic()
            self._busy[worker] = job
            self._send(worker, work, job.item)
        missing = min(len(waiting), self.num_workers - len(self._busy)) - len(self._starting)
        self._starting += [self._start() for _ in range(missing)]

    def _late(self, now: float) -> list[Any]:
        """Workers that exceed the time limit of their item."""
        return [
            worker
            for worker, job in self._busy.items()
            if self._time_limit is not None
            and now - job.since > self._time_limit * self._time_limits(job.item)
        ]

    def _too_slow(self, worker: Any) -> str:
        job = self._busy[worker]
        return f"{_shown(job.item)} took over {time.monotonic() - job.since:.0f} s on {self._where(worker)}"

    def _lose(self, worker: Any, reason: str, waiting: "deque[_Job]") -> None:
        """Kill a dead or late worker, and do its item again. Raises `WorkerLostError` after the last attempt."""
        job = self._busy.pop(worker)
        self._kill(worker)
        if not job.is_wanted:
            return
        if job.attempt >= WORK_ATTEMPTS:
            raise WorkerLostError(
                f"{job.attempt} workers were lost one after the other at {_shown(job.item)} ({reason}; out of "
                f"memory?); {self._remedy}, and run again: what is finished stays"
            )
        _say(f"warning: a worker is replaced ({reason}); {_shown(job.item)} is done again")
        waiting.appendleft(_Job(job.item, job.attempt + 1, 0.0))

    def _what_is_waited_for(self, silent: float) -> str:
        now = time.monotonic()
        jobs = sorted(self._busy.items(), key=lambda entry: entry[1].since)
        shown = [
            f"{_shown(job.item)} on {self._where(one)} for {now - job.since:.0f} s" for one, job in jobs[:3]
        ]
        if len(jobs) > 3:
            shown.append(f"{len(jobs) - 3} more")
        if self._starting:
            shown.append(f"{len(self._starting)} workers to start ({self._resources()})")
        return f"no result for {silent:.0f} s; waiting for " + ", ".join(shown)

    @abstractmethod
    def _start(self) -> Any:
        """Begin to start a worker; `_first_done` gives it when it can take work."""

    @abstractmethod
    def _send(self, worker: Any, work: Callable[[W, T], R], item: T) -> None:
        """Let the worker begin; a dead one is noticed by `_receive`."""

    @abstractmethod
    def _first_done(self, workers: list[Any], seconds: float) -> Any:
        """One of these workers that has started, finished or died; None if there is none within the time."""

    @abstractmethod
    def _receive(self, worker: Any) -> Any:
        """The result of a worker that `_first_done` gave. Raises the error of the work, or `WorkerDiedError`."""

    @abstractmethod
    def _kill(self, worker: Any) -> None:
        """End the worker at once, also one that is stopped."""

    @abstractmethod
    def _where(self, worker: Any) -> str:
        """Where a started worker runs, for messages."""

    @abstractmethod
    def _resources(self) -> str:
        """The resources that a worker needs to start and those that there are, for messages."""


def _shown(item: object) -> str:
    shown = str(item)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
