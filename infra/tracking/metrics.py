"""Metrics of one MLflow run, sent by a thread, so that training never waits for the store."""

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
"""Largest number of values that wait while the store cannot be reached; above it the oldest are dropped."""
_BATCH = 1000
_FLUSH_SECONDS, _MOST_SECONDS = 2.0, 60.0
CLOSE_SECONDS = 20.0
"""Seconds that the end of a job waits for the store to take the remaining values."""


class _Value(NamedTuple):
    key: str
    value: float
    milliseconds: int
    step: int | None


class MetricsLogger:
    """Sends the metrics of one run in batches. While the store cannot be reached, up to `MAX_WAITING` values wait in
    memory, and one warning is logged.

    Steps of a key that a resumed run has already are left out.
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
        """Queue these values; `step` counts optimizer steps, None for values without a step. Never waits for the
        store."""
        now = int(time.time() * 1000)
        with self._lock:
            self._waiting.extend(_Value(key, float(value), now, step) for key, value in metrics.items())
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._given_up += 1

    def close(self) -> None:
        """Send the waiting values and end the thread within `CLOSE_SECONDS`; the rest is dropped with a warning."""
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
                # Values that were dropped meanwhile were the oldest, so they are in the batch.
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
