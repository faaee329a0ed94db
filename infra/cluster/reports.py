"""Metrics and warnings on their way from the training workers to the driver, none lost and none twice.

Between them is an actor on the driver's node. A worker keeps each message, and sends it again, until the driver has
confirmed it; so the actor may die at any time, and another takes its place. This module imports nothing large, so that
the other is there soon.
"""

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from infra.cluster.nodes import worker_is_on

log = logging.getLogger("sllm")

Message = tuple[Literal["metrics", "warning", "node"], Any]

POLL_SECONDS = 0.5
CALL_SECONDS = 10
"""After so long a call to the actor has failed, and is made again."""
FLUSH_SECONDS = 60
"""How long a worker that ends waits for the driver's confirmation."""


class ReportQueue:
    """The actor: the messages of each sender that the driver has not confirmed."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[int, Message]] = defaultdict(dict)
        self.confirmed: dict[str, int] = {}

    def put(self, sender: str, messages: dict[int, Message]) -> int:
        """Add the numbered messages of a sender -> the number of its last confirmed message, 0: none."""
        confirmed = self.confirmed.get(sender, 0)
        self.waiting[sender] |= {
            number: message for number, message in messages.items() if number > confirmed
        }
        return confirmed

    def take(self, confirmed: dict[str, int]) -> dict[str, dict[int, Message]]:
        """Confirm messages up to these numbers -> the others, by sender and number."""
        self.confirmed = confirmed
        for sender, last in confirmed.items():
            known = self.waiting[sender]
            self.waiting[sender] = {number: known[number] for number in known if number > last}
        return dict(self.waiting)


def _queue(name: str, node: str) -> Any:
    """The actor of this name, on the node; a new one where there is none."""
    return (
        ray.remote(ReportQueue)
        .options(
            name=name,
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote()
    )


class Sender:
    """A worker's end, with a thread that sends; nothing waits for it but `close`."""

    def __init__(self, queue: str) -> None:
        self._queue, self._name = queue, uuid.uuid4().hex
        self._lock = threading.Lock()
        self._count = 0
        self._unconfirmed: dict[int, Message] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reports", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Send a message some time; any thread may call it."""
        with self._lock:
            self._count += 1
            self._unconfirmed[self._count] = message

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until the driver has all messages, at most so long."""
        self._last = time.monotonic() + seconds
        self._closed.set()
        self._thread.join(seconds + POLL_SECONDS)

    def _work(self) -> None:
        handle: Any = None
        while True:
            closed = self._closed.wait(POLL_SECONDS)
            with self._lock:
                messages = dict(self._unconfirmed)
            if closed and (not messages or time.monotonic() > self._last):
                return
            if messages:
                try:
                    handle = handle or ray.get_actor(self._queue)
                    confirmed = ray.get(handle.put.remote(self._name, messages), timeout=CALL_SECONDS)
                except (RayError, ValueError):  # no actor of that name: a ValueError
                    handle, confirmed = None, 0
                with self._lock:
                    self._unconfirmed = {n: m for n, m in self._unconfirmed.items() if n > confirmed}
                if closed:
                    time.sleep(POLL_SECONDS)


class Receiver:
    """The driver's end: it reports the metrics of each step once, in the order of the steps, and logs warnings."""

    def __init__(self, report: Callable[[dict[str, float]], None]) -> None:
        self.queue = f"sllm-reports-{uuid.uuid4().hex}"
        self._report = report
        self._node = ray.get_runtime_context().get_node_id()
        self._handle: Any = _queue(self.queue, self._node)
        self._confirmed: dict[str, int] = {}
        self._step = 0.0
        self._error: Exception | None = None

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """A context in which a thread receives. Raises the error of `report`, which also interrupts the context."""
        done = threading.Event()

        def poll() -> None:
            while not done.wait(POLL_SECONDS):
                self._receive()
                if self._error is not None:
                    os.kill(os.getpid(), signal.SIGINT)
                    return

        thread = threading.Thread(target=poll, name="training-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if self._error is None:
                self._receive()
            with contextlib.suppress(RayError):
                ray.kill(self._handle)
            if self._error is not None:
                raise self._error

    def _receive(self) -> None:
        try:
            taken = ray.get(self._handle.take.remote(dict(self._confirmed)), timeout=CALL_SECONDS)
        except GetTimeoutError:
            return
        except RayError:
            # Restarting, or killed for good.
            with contextlib.suppress(RayError, ValueError):
                self._handle = _queue(self.queue, self._node)
            return
        for sender, messages in taken.items():
            for number in sorted(messages):
                # A restarted actor may bring a message again. None is skipped: a sender sends all unconfirmed ones.
                if number > self._confirmed.get(sender, 0):
                    self._handle_message(messages[number])
                    self._confirmed[sender] = number

    def _handle_message(self, message: Message) -> None:
        kind, content = message
        if kind == "warning":
            log.warning(content)
        elif kind == "node":
            worker_is_on(content)
        elif content["step"] > self._step and self._error is None:
            # Steps before are those done again after a restart.
            self._step = content["step"]
            try:
                self._report(content)
            except Exception as error:
                self._error = error
