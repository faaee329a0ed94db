"""Metrics of one MLflow run, sent from a thread of their own: no call to the store in the thread that trains."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pipeline.errors import first_line
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

MAX_WAITING = 200_000
"""Values that wait for a store which cannot be reached, at most; then the oldest are given up."""
_BATCH = 1000
_FLUSH_SECONDS, _MOST_SECONDS = 2.0, 60.0
CLOSE_SECONDS = 20.0
"""How long the end of a job waits for the store to take what is left."""


class _Value(NamedTuple):
    key: str
    value: float
    milliseconds: int
    step: int | None


class MetricsLogger:
    """Sends the metrics of one run in batches. A store that cannot be reached for a while costs the memory of what
    waits, `MAX_WAITING` values at most, and one warning.

    Steps of a key that the run holds already (it was resumed) are left out.
    """

    def __init__(self, make_client: Callable[[], "MlflowClient"], run_id: str) -> None:
        self._make_client = make_client
        self._client: MlflowClient | None = None
        self._run_id = run_id
        self._last_steps: dict[str, int] = {}
        self._waiting: deque[_Value] = deque()
        self._given_up = 0
        self._is_away = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._send_now_and_then, name="metrics", daemon=True)
        self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue these values; `step` counts optimizer steps, none for what has no step. Never waits for the store."""
        now = int(time.time() * 1000)
        with self._lock:
            self._waiting.extend(_Value(key, float(value), now, step) for key, value in metrics.items())
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._given_up += 1

    def close(self) -> None:
        """Send what waits and end the thread, within `CLOSE_SECONDS`; what the store does not take by then is given
        up with a warning."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)
        with self._lock:
            lost = len(self._waiting) + self._given_up
        if lost:
            logger.warning("%d metric values of run %s could not be stored", lost, self._run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_now_and_then(self) -> None:
        pause = _FLUSH_SECONDS
        while not self._closed.wait(pause):
            pause = _FLUSH_SECONDS if self._flush() else min(2 * pause, _MOST_SECONDS)
        until = time.monotonic() + CLOSE_SECONDS
        while not self._flush() and time.monotonic() < until:
            time.sleep(1.0)

    def _flush(self) -> bool:
        while True:
            with self._lock:
                batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
                given_up = self._given_up
            if not batch:
                return True
            try:
                self._send(batch)
            except Exception as error:
                if not self._is_away:
                    line = first_line(error)
                    logger.warning(
                        "the tracking store cannot be reached, metrics are kept until it can: %s",
                        redacted(line),
                    )
                self._is_away = True
                return False
            self._is_away = False
            with self._lock:
                # What was given up meanwhile was the oldest, so part of the batch.
                for _ in range(len(batch) - (self._given_up - given_up)):
                    self._waiting.popleft()

    def _send(self, batch: list[_Value]) -> None:
        from mlflow.entities import Metric

        if self._client is None:
            self._client = self._make_client()
        for value in batch:
            if value.step is not None and value.key not in self._last_steps:
                history: list[Any] = self._client.get_metric_history(self._run_id, value.key)
                self._last_steps[value.key] = max((metric.step for metric in history), default=-1)
        new = [v for v in batch if v.step is None or v.step > self._last_steps[v.key]]
        if new:
            metrics = [Metric(v.key, v.value, v.milliseconds, v.step or 0) for v in new]
            self._client.log_batch(self._run_id, metrics=metrics, synchronous=True)
