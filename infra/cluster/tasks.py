"""Work in Ray actors, which get one item at a time, so that the number of unfinished items is bounded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline.config import RayConfig
from pipeline.errors import SllmError

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")

WORK_ATTEMPTS = 3
"""Attempts per item when its worker dies; an error of the work itself is final."""


class WorkerLostError(SllmError):
    """An item at which workers died `WORK_ATTEMPTS` times, or workers that do not start."""


@dataclass(frozen=True)
class Resources:
    """What each worker reserves on its node."""

    num_cpus: float = 1
    num_gpus: float = 0

    @classmethod
    def of_models(cls, config: RayConfig) -> "Resources":
        """Resources of a worker that trains, evaluates or generates."""
        return cls(config.cpus_per_worker, 1 if config.use_gpu else 0)

    def options(self) -> dict[str, Any]:
        """Options of a Ray task or actor."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}


class _Actor:
    def __init__(self, make_worker: Callable[[], Any]) -> None:
        # A worker has few cores, so the tokenizer must not start threads.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._worker = make_worker()

    def call(self, work: Callable[[Any, Any], Any], item: Any) -> Any:
        return work(self._worker, item)

    def ready(self) -> None:
        pass


class RayWorkers(Generic[W]):
    """Actors until `close`; an actor that dies is replaced and its item is repeated."""

    def __init__(
        self,
        make_worker: Callable[[], W],
        num_workers: int,
        resources: Resources = Resources(),
        remedy: str = "make prepare.work_unit_bytes smaller or give workers more memory",
    ) -> None:
        """`remedy`: what the user can do when workers die at the same item."""
        self._make_worker, self._resources, self._remedy = make_worker, resources, remedy
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Any, int]] = {}
        for _ in range(num_workers):
            self._start_actor()

    def _start_actor(self) -> None:
        actor: Any = ray.remote(**self._resources.options())(_Actor).remote(self._make_worker)
        # It gets work only after it answers: on a full cluster it may have to wait for a free core.
        self._starting[actor.ready.remote()] = actor

    def map(self, work: Callable[[W, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work(worker, item)` for each item; yields (item, result) in the order of completion.

        Raises the errors of the work, and `WorkerLostError` where workers die at the same item each time.
        """
        waiting = deque((item, 1) for item in items)
        busy = self._busy
        failures = 0
        while waiting or busy:
            while waiting and self._idle:
                actor = self._idle.pop()
                item, attempt = waiting.popleft()
                busy[actor.call.remote(work, item)] = (actor, item, attempt)
            done, _ = ray.wait([*busy, *self._starting], num_returns=1)
            ref = done[0]
            if ref in self._starting:
                actor = self._starting.pop(ref)
                try:
                    ray.get(ref)
                    self._idle.append(actor)
                except RayActorError as error:
                    failures += 1
                    if failures >= WORK_ATTEMPTS:
                        raise WorkerLostError(f"workers do not start: {error}") from error
                    self._start_actor()
                continue
            actor, item, attempt = busy.pop(ref)
            try:
                result = ray.get(ref)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError as error:
                if attempt >= WORK_ATTEMPTS:
                    raise WorkerLostError(
                        f"{attempt} workers died one after the other at the same work unit (out of "
                        f"memory?): {error}; {self._remedy}"
                    ) from error
                waiting.appendleft((item, attempt + 1))
                self._start_actor()
                continue
            self._idle.append(actor)
            yield item, result

    def close(self) -> None:
        """Stop the actors; results of their current items are lost."""
        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _, _ in self._busy.values())]:
            ray.kill(actor)
        self._idle, self._starting, self._busy = [], {}, {}
