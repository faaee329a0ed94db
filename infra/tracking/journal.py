"""What a job has to tell MLflow: operations in a file beside the output, until MLflow has them all."""

import contextlib
import json
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from infra.storage import Folder, StorageError
from pipeline.config.paths import is_url
from pipeline.errors import first_line
from pipeline.output_files import written_aside

log = logging.getLogger("sllm")

JOURNAL_NAME = ".tracking.jsonl"
"""Hidden, as it is no part of the result."""
_LARGE_BYTES = 2**16

Operation = dict[str, Any]


class Journal:
    """A queue of operations in a file: those of one run after its `create`, then perhaps those of the next run.

    Each line is in the file before `append` returns, so it outlives the process. What could not be written (a full
    disk) waits in memory. The journal of an output at a URL is a temporary file; `store` copies it to the URL.
    """

    def __init__(self, output: str) -> None:
        """Opens the journal of the job that writes to `output`, with the operations that an earlier process left."""
        self.output = output
        self._folder = Folder(output) if is_url(output) else None
        self._temporary: str | None = None
        self.place = f"{output.rstrip('/')}/{JOURNAL_NAME}"
        """Path or URL of the file."""
        self._path = Path(output, JOURNAL_NAME)
        if self._folder is not None:
            self._temporary = tempfile.mkdtemp(prefix="sllm-tracking-")
            self._path = Path(self._temporary, JOURNAL_NAME)
            if (left := self._folder.read(JOURNAL_NAME)) is not None:
                self._path.write_bytes(left)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._position = 0
        self._in_memory: list[Operation] = []
        self._is_broken = self._closed = False
        self._cut_unfinished_line()

    @staticmethod
    def exists(output: str) -> bool:
        """Whether an earlier process left operations for `output`. Raises `StorageError`."""
        if is_url(output):
            return Folder(output).read(JOURNAL_NAME) is not None
        return Path(output, JOURNAL_NAME).is_file()

    def last_run(self) -> list[Operation]:
        """The operations of the last run in the file, from its `create` on, also those that were sent."""
        found: list[Operation] = []
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
            for operation in map(json.loads, lines):
                if operation["do"] == "create":
                    found.clear()
                found.append(operation)
        return found

    def append(self, operation: Operation) -> None:
        """Add an operation."""
        with self._lock:
            if self._closed:
                return
            if not self._is_broken:
                try:
                    with self._path.open("ab") as file:
                        file.write(json.dumps(operation).encode() + b"\n")
                    return
                except OSError as error:
                    self._is_broken = True
                    log.warning(
                        f"warning: {self.place} cannot be written ({error.strerror}): what MLflow has not got when "
                        "this job ends is lost"
                    )
            self._in_memory.append(operation)

    def waiting(self, most: int) -> list[Operation]:
        """The next operations that were not sent, at most this many; `sent` takes them off."""
        with self._lock:
            found: list[Operation] = []
            with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
                lines.seek(self._position)
                for line in lines:
                    if len(found) == most or not line.endswith(b"\n"):
                        break
                    found.append(json.loads(line))
            return found + self._in_memory[: most - len(found)]

    def sent(self, number: int) -> None:
        """The first `number` waiting operations are stored."""
        with self._lock:
            if self._closed:
                return
            with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
                lines.seek(self._position)
                while number and lines.readline().endswith(b"\n"):
                    self._position = lines.tell()
                    number -= 1
            del self._in_memory[:number]

    def shorten(self, header: Operation) -> None:
        """If the file is large and all of it is sent: leave only `header`, which counts as sent."""
        with self._lock, contextlib.suppress(OSError):
            size = self._path.stat().st_size
            if self._closed or self._is_broken or size < _LARGE_BYTES or self._position < size:
                return
            with written_aside(self._path) as aside:
                aside.write_bytes(json.dumps(header).encode() + b"\n")
                self._position = aside.stat().st_size

    def store(self) -> None:
        """Copy the journal of an output at a URL to the URL."""
        if self._folder is None or self._closed:
            return
        try:
            self._folder.write(JOURNAL_NAME, self._path.read_bytes())
        except (OSError, StorageError) as error:
            log.warning(f"warning: {self.place} cannot be written: {first_line(error)}")

    def close(self, all_sent: bool, kept: Operation | None = None) -> None:
        """End all use of the file. If all of it was sent, it is removed, or only the operation `kept` stays in it."""
        with self._lock, contextlib.suppress(OSError):
            if self._closed:
                return
            if all_sent and kept is not None:
                with written_aside(self._path) as aside:
                    aside.write_bytes(json.dumps(kept).encode() + b"\n")
            if not all_sent or kept is not None:
                self.store()
            self._closed = True
            if all_sent and kept is None:
                self._path.unlink(missing_ok=True)
                if self._folder is not None:
                    with contextlib.suppress(StorageError):
                        self._folder.remove([JOURNAL_NAME])
            if self._temporary is not None:
                self._path.unlink(missing_ok=True)
                Path(self._temporary).rmdir()

    def _cut_unfinished_line(self) -> None:
        """A killed process may have left a part of a line."""
        with contextlib.suppress(FileNotFoundError):
            content = self._path.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(self._path, content.rfind(b"\n") + 1)
