"""Work in Ray actors."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from infra.cluster.nodes import node_of_worker, worker_is_on
from infra.dispatch import PREPARE_REMEDY, Dispatcher, WorkerDiedError
from pipeline.config import RayConfig

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Resources:
    """What each worker reserves on its node."""

    num_cpus: float = 1
    num_gpus: float = 0
    node_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_models(cls, config: RayConfig) -> "Resources":
        """Resources of a worker that trains, evaluates or generates."""
        return cls(config.cpus_per_worker, 1 if config.use_gpu else 0, config.node_labels)

    def options(self) -> dict[str, Any]:
        """Options of a Ray task or actor."""
        return {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "label_selector": dict(self.node_labels) or None,
        }


class _Actor:
    def start(self, make_worker: Callable[[], Any]) -> tuple[str, str]:
        """Make the worker -> where it runs, in words, and the id of its node."""
        # A worker has few cores, so the tokenizer must not start threads.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._worker = make_worker()
        return f"node {ray.util.get_node_ip_address()} (process {os.getpid()})", node_of_worker()

    def call(self, work: Callable[[Any, Any], Any], item: Any) -> Any:
        return work(self._worker, item)


class _Started:
    """An actor, and the reference of what it does now."""

    def __init__(self, actor: Any, ref: Any) -> None:
        self.actor, self.ref = actor, ref
        self.where = ""


class RayWorkers(Dispatcher[W]):
    """Actors, until `close`. Those for which the cluster has no core wait, and the others work."""

    def __init__(
        self,
        make_worker: Callable[[], W],
        num_workers: int,
        resources: Resources = Resources(),
        remedy: str = PREPARE_REMEDY,
        **time_limits: Any,
    ) -> None:
        """`remedy` and `time_limits`: as of `Dispatcher`."""
        super().__init__(num_workers, remedy, **time_limits)
        self._make_worker, self._reserved = make_worker, resources

    def _start(self) -> _Started:
        actor: Any = ray.remote(**self._reserved.options())(_Actor).remote()
        return _Started(actor, actor.start.remote(self._make_worker))

    def _send(self, worker: _Started, work: Callable[[W, T], R], item: T) -> None:
        worker.ref = worker.actor.call.remote(work, item)

    def _first_done(self, workers: list[_Started], seconds: float) -> _Started | None:
        by_ref = {worker.ref: worker for worker in workers}
        done, _ = ray.wait(list(by_ref), num_returns=1, timeout=seconds)
        return by_ref[done[0]] if done else None

    def _receive(self, worker: _Started) -> Any:
        try:
            result = ray.get(worker.ref)
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            raise WorkerDiedError(f"{worker.where or 'an actor'} died: {error}") from error
        if not worker.where:
            worker.where, node = result
            worker_is_on(node)
        return result

    def _kill(self, worker: _Started) -> None:
        ray.kill(worker.actor)

    def _where(self, worker: _Started) -> str:
        return worker.where

    def _resources(self) -> str:
        have, free = ray.cluster_resources(), ray.available_resources()
        wanted = {"CPU": self._reserved.num_cpus, "GPU": self._reserved.num_gpus}
        return "; ".join(
            f"each needs {number:g} {name}, the cluster has {have.get(name, 0):g} and {free.get(name, 0):g} free"
            for name, number in wanted.items()
            if number
        ) + (
            f"; on nodes with the labels {dict(self._reserved.node_labels)}"
            if self._reserved.node_labels
            else ""
        )


def num_cluster_cores() -> int:
    """CPUs of all nodes that the cluster has now; at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))
