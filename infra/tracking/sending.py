"""The thread that sends the operations of a job to MLflow, so that no job waits for the store."""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable

from infra.tracking.journal import Journal, Operation
from infra.tracking.operations import RunWriter
from infra.tracking.store import check_reachable, is_away, is_denied, reason, resolve_uri, unusable
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, first_line
from pipeline.redaction import redacted

log = logging.getLogger("sllm")

PAUSE_SECONDS, MOST_PAUSE_SECONDS = 2.0, 60.0
"""Between batches of metrics; between tries while the store is away, doubled after each."""
_LAST_PAUSE_SECONDS = 1.0
_MOST_CLOSING = 10.0
"""The end of a job waits at most this many times `tracking.retry_seconds` for a store that answers slowly."""
_POINTS_A_BATCH = 500
_TRIES = 3
"""Of an operation that the store refuses."""


class Sender:
    """Applies the operations of a journal in their order, and tries again while the store is away."""

    def __init__(
        self,
        tracking: TrackingConfig,
        journal: Journal,
        trouble: str | None,
        lost: Callable[[], None] = lambda: None,
        keeps_run: bool = False,
    ) -> None:
        """`trouble`: why the store is known to be away. `lost` is called when `required` is not met. `keeps_run`: the
        file keeps the run's id when all is sent."""
        self._tracking, self.journal, self._lost, self._keeps_run = tracking, journal, lost, keeps_run
        self.uri = resolve_uri(tracking.uri)
        self._writer = RunWriter(tracking, self.uri, self._before_call, self._after_call, journal.output)
        self.failure: str | None = None
        """Why the job may not go on (`tracking.required`)."""
        self.refusal: ConfigError | None = None
        """Why the store refuses this job's run."""
        self._trouble: str | None = None
        self._answered = self._away_since = time.monotonic()
        self._current: Operation = {}
        self._wake, self._closing, self._given_up = (threading.Event() for _ in range(3))
        self._changed = threading.Condition()
        if trouble is not None:
            self._note_trouble(trouble)
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def run_of(self, key: str) -> str:
        """The run with this key; empty while it is not known."""
        return self._writer.runs.get(key, "")

    def wait_for_run(self, key: str, seconds: float | None) -> None:
        """Wait until the run is known, or the store is known to be away. Raises `ConfigError` where it refuses."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.run_of(key) or self._trouble or self.failure or self.refusal, seconds
            )
        if self.refusal is not None:
            raise self.refusal

    def add(self, operation: Operation) -> None:
        """Queue an operation; never waits for the store."""
        self.journal.append(operation)
        if operation["do"] != "metrics":
            self._wake.set()

    def close(self) -> bool:
        """Send what waits -> whether all of it is sent.

        It waits until there was no answer for `tracking.retry_seconds`, and at most ten times as long; for files as
        long as they may take.
        """
        begun = time.monotonic()
        patience, clock = self._tracking.retry_seconds, self._writer.clock
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive():
            now = time.monotonic()
            silent, whole = now - max(begun, self._answered), now - begun
            sending = clock.allowed_now
            if (
                silent > patience + sending
                or whole > _MOST_CLOSING * patience + clock.allowed_before + sending
            ):
                break
            self._thread.join(0.05)
        self._given_up.set()
        all_sent = not self.journal.waiting(1)
        is_known = self._keeps_run and self.run_of(self._current.get("key", ""))
        self.journal.close(all_sent, self._known_run() if is_known else None)
        return all_sent

    def _run(self) -> None:
        pause = 0.0
        while not self._given_up.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            if self._send():
                if self._closing.is_set() and not self.journal.waiting(1):
                    return
                pause = PAUSE_SECONDS
            elif self._closing.is_set():
                self._given_up.wait(_LAST_PAUSE_SECONDS)
                pause = 0.0
            else:
                pause = min(max(2 * pause, PAUSE_SECONDS), MOST_PAUSE_SECONDS)
                self._check_required()

    def _send(self) -> bool:
        """Send what waits -> whether the store answered."""
        tries = 0
        while (waiting := self.journal.waiting(_POINTS_A_BATCH)) and not self._given_up.is_set():
            points = itertools.takewhile(lambda one: one["do"] == "metrics", waiting)
            batch = list(points) or waiting[:1]
            try:
                check_reachable(self.uri)
                self._writer.apply(batch)
            except Exception as error:
                if self._given_up.is_set():
                    return False
                self._writer.doubt()
                if is_away(error, self.uri) or (batch[0]["do"] != "create" and is_denied(error)):
                    self._note_trouble(reason(error))
                    return False
                tries += 1
                if (
                    batch[0]["do"] != "create" and tries < _TRIES
                ):  # a call that was given up may still have run
                    self._given_up.wait(_LAST_PAUSE_SECONDS)
                    continue
                self._refused(batch[0], error)
            tries = 0
            self._note_answer(batch)
        return True

    def _before_call(self) -> None:
        if self._given_up.is_set():
            raise TimeoutError("the job has ended")

    def _after_call(self) -> None:
        self._answered = time.monotonic()

    def _note_answer(self, batch: list[Operation]) -> None:
        if batch[0]["do"] == "create":
            self._current = batch[0]
        self.journal.sent(len(batch))
        if self.run_of(self._current.get("key", "")):
            self.journal.shorten(self._known_run())
        with self._changed:
            if self._trouble is not None:
                log.warning(f"MLflow at {redacted(self.uri)} answers again")
            self._trouble = None
            self._answered = time.monotonic()
            self._changed.notify_all()

    def _known_run(self) -> Operation:
        return {**self._current, "run_id": self.run_of(self._current["key"])}

    def _note_trouble(self, trouble: str) -> None:
        with self._changed:
            if self._trouble is None:
                log.warning(
                    f"warning: MLflow at {redacted(self.uri)} does not answer ({trouble}): the job goes on, and what "
                    f"MLflow has not got is kept in {self.journal.place}"
                )
                self._away_since = time.monotonic()
                self.journal.store()
            self._trouble = trouble
            self._changed.notify_all()

    def _refused(self, operation: Operation, error: Exception) -> None:
        """An operation that the store will never take."""
        line = redacted(first_line(error))
        if operation["do"] == "create" and not self.run_of(operation["key"]):
            self.refusal = error if isinstance(error, ConfigError) else unusable(self.uri, error)
        else:
            log.warning(f"warning: MLflow refused a part of this job ({operation['do']}): {line}")
            with contextlib.suppress(Exception):
                self._writer.give_up(operation)
        if self._tracking.required:
            self._fail(f"MLflow at {redacted(self.uri)} refused a part of this job: {line}")

    def _check_required(self) -> None:
        silent = time.monotonic() - self._away_since
        if self._tracking.required and silent > self._tracking.retry_seconds:
            self._fail(
                f"MLflow at {redacted(self.uri)} has not answered for {silent:.0f} s ({self._trouble}) and "
                "tracking.required is set: run the same command again when it does, or leave tracking.required out"
            )

    def _fail(self, message: str) -> None:
        if self.failure is None and not self._closing.is_set():
            self.failure = message
            self._lost()
