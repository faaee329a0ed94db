"""A training worker that makes no progress ends itself, so that training can restart without it."""

import os
import signal
import threading
import time
from collections.abc import Callable

START_SECONDS = 600.0
"""The first `beat` may take at least so long: what comes before is the start."""


class Watchdog:
    """A thread that kills this process when `beat` is not called for `seconds`.

    A process that is stopped as a whole cannot end itself: the controller ends that one.
    """

    def __init__(self, seconds: float, last_words: Callable[[str], None]) -> None:
        """`last_words` gets a line that says why, before the end."""
        self.seconds, self._last_words = seconds, last_words
        self._closed = threading.Event()
        self._until = time.monotonic() + max(seconds, START_SECONDS)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that there is progress."""
        self._until = time.monotonic() + self.seconds

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self.seconds / 10, 1.0)):
            if time.monotonic() > self._until:
                self._last_words(
                    f"a worker made no progress for {self.seconds:g} s (ray.step_timeout_seconds) and ends; it waited "
                    "for another worker, for storage, or is stuck"
                )
                os.kill(os.getpid(), signal.SIGKILL)
