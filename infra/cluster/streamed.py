"""A generator that runs on one worker of a cluster; the driver gets each item as it comes."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from infra.cluster.connection import connect
from infra.cluster.nodes import node_of_worker, worker_is_on
from infra.cluster.tasks import Resources
from infra.dispatch import WORK_ATTEMPTS, WorkerLostError
from pipeline.config import RayConfig

T = TypeVar("T")
log = logging.getLogger("sllm")


def streamed(config: RayConfig, work: Callable[..., Iterator[T]], *arguments: Any) -> Iterator[T]:
    """The items of `work(*arguments)` on a worker with the resources of a training worker; its warnings come too.

    A worker that dies is replaced: what the next one makes again must be the same, and is not yielded twice. Raises the
    errors of the work, and `WorkerLostError` where workers die again and again, or make other items.
    """
    connect(config)
    task: Any = ray.remote(max_retries=0, **Resources.of_models(config).options())(_run)
    yielded: list[Any] = []
    for attempt in range(1, WORK_ATTEMPTS + 1):
        running = task.remote(work, arguments)
        try:
            for index, ref in enumerate(running):
                node, item = ray.get(ref)
                worker_is_on(node)
                if index < len(yielded):
                    if item != yielded[index]:
                        raise WorkerLostError(
                            "a worker died, and the next one does not come to the same results: run again"
                        )
                    continue
                yielded.append(item)
                if isinstance(item, _Warned):
                    log.warning(item.message)
                else:
                    yield item
            return
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            if attempt == WORK_ATTEMPTS:
                raise WorkerLostError(
                    f"{attempt} workers died one after the other (out of memory?): {error}; give workers more memory"
                ) from error
        finally:
            ray.cancel(running)  # where the driver wants no more items


@dataclass(frozen=True)
class _Warned:
    message: str


class _Collected(logging.Handler):
    """Keeps warnings until they are sent to the driver."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def taken(self) -> list[_Warned]:
        """The warnings since the last call."""
        messages, self._messages = self._messages, []
        return [_Warned(message) for message in messages]


def _run(work: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The id of the node, with each item."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker has few cores
    node = node_of_worker()
    collected = _Collected()
    log.addHandler(collected)
    try:
        for item in work(*arguments):
            for warned in collected.taken():  # Ray sends into its generators, so no `yield from` a list
                yield node, warned
            yield node, item
        for warned in collected.taken():
            yield node, warned
    finally:
        log.removeHandler(collected)
