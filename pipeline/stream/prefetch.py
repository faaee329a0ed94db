"""Reading ahead: a thread makes the next items while the present one is used."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, Literal, TypeVar

from pipeline.errors import TrainingError

T = TypeVar("T")
ItemKind = Literal["item", "error", "end"]

QUEUE_POLL_SECONDS = 0.1
"""How often a thread that waits for room checks whether it must stop."""


def prefetch(items: Iterator[T], depth: int, stall_seconds: float) -> Generator[T, None, None]:
    """The same items, made by a thread at most `depth` items ahead; 0: without a thread.

    An error of `items` is raised here, in order. Closing this generator (an error or Ctrl-C in the loop around it)
    stops the thread. Raises `TrainingError` when no item comes for `stall_seconds`.
    """
    if depth == 0:
        yield from items
        return
    ready: queue.Queue[tuple[ItemKind, Any]] = queue.Queue(depth)
    unwanted = threading.Event()

    def put(kind: ItemKind, value: Any = None) -> None:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put((kind, value), timeout=QUEUE_POLL_SECONDS)

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if unwanted.is_set():
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, name="batch-loader", daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = ready.get(timeout=stall_seconds)
            except queue.Empty:
                raise TrainingError(
                    f"the batch loader has brought nothing for {stall_seconds:g} s: is the storage of the shards "
                    "still answering? stream.stall_seconds sets how long training waits"
                ) from None
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        unwanted.set()
        thread.join(timeout=1)  # one that hangs in a read ends with the process
