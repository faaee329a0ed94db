"""Checkpoints at an fsspec URL, where files appear whole or not at all, but folders cannot be renamed."""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from infra.checkpoints.local_store import STEP_NAME, Written, written_in
from infra.storage import Folder
from pipeline.lineage import identity_digest
from pipeline.output_files import is_of_checkpoint
from pipeline.remote import StorageError
from pipeline.training.checkpoint import CHECKSUMS_FILE, STATE_FILE, writing

log = logging.getLogger("sllm")

RETRY_SECONDS = (1, 2, 4, 8, 16, 32, 64)
"""Waits between attempts to write a file."""


class UrlStore:
    """Each checkpoint is written in its own place; `training_state.json`, which comes last, makes it a checkpoint."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.temporary = f"sllm-checkpoint-{identity_digest(folder.url)[:12]}-"
        """Prefix of the temporary folders of this URL's checkpoints."""

    def remove_temporary(self) -> None:
        """Remove temporary folders on this machine that killed processes left. No process may use one."""
        for path in Path(tempfile.gettempdir()).glob(f"{self.temporary}*"):
            shutil.rmtree(path, ignore_errors=True)

    def writing(self, name: str) -> contextlib.AbstractContextManager[None]:
        """A context in which errors of writing name the temporary folder and the free space."""
        return writing(Path(tempfile.gettempdir()))

    def found(self) -> Iterator[tuple[int, str]]:
        """Step and name of each checkpoint, damaged ones too."""
        for file in self._folder.names():
            name, _, inside = file.partition("/")
            if inside == STATE_FILE and (match := STEP_NAME.fullmatch(name)):
                yield int(match[1]), name

    def is_whole(self, name: str) -> bool:
        """Whether the file that is written last is there: without it, it is not found."""
        return True

    def unfinished(self) -> list[str]:
        """Names of what killed runs left."""
        names = {file.partition("/")[0] for file in self._folder.names()}
        return sorted(
            name for name in names - {name for _, name in self.found()} if STEP_NAME.fullmatch(name)
        )

    def remove(self, name: str, keep: Collection[str] = ()) -> None:
        """Remove the files of a checkpoint that a job wrote, the state first."""
        own = [file for file in self._files(name) if file not in keep]
        self._folder.remove([f"{name}/{file}" for file in sorted(own, key=lambda file: file != STATE_FILE)])

    def put(self, name: str, write: Callable[[Path], None], rank: int) -> tuple[Written, bytes]:
        """Write this rank's files -> what was written, and the content of the state, which is not there yet."""
        if rank == 0:
            self._folder.remove([f"{name}/{STATE_FILE}"])  # of a damaged one, which was passed over
        with tempfile.TemporaryDirectory(prefix=self.temporary, ignore_cleanup_errors=True) as stage:
            write(Path(stage))
            written, state = written_in(Path(stage))
            for file in written:
                if file != STATE_FILE:
                    self._patiently(lambda file=file: self._folder.put(f"{name}/{file}", Path(stage, file)))  # type: ignore[misc]
            return written, state

    def complete(self, name: str, written: Written, checksums: bytes, state: bytes) -> None:
        """Make a checkpoint of the files of all ranks."""
        self.remove(name, keep=written)
        self._patiently(lambda: self._folder.write(f"{name}/{CHECKSUMS_FILE}", checksums))
        self._patiently(lambda: self._folder.write(f"{name}/{STATE_FILE}", state))

    def fetch(self, name: str, into: Path, below: str = "") -> None:
        """Copy the files of a checkpoint to a local folder, or those whose names begin with `below` and what is needed
        to check them. Files that are missing are left out. Raises `StorageError` where they cannot be
        copied."""
        try:
            for file in self._files(name):
                if file.startswith(below) or file in (STATE_FILE, CHECKSUMS_FILE):
                    (into / file).parent.mkdir(parents=True, exist_ok=True)
                    with contextlib.suppress(FileNotFoundError):
                        self._folder.get(f"{name}/{file}", into / file)
        except OSError as error:
            free = shutil.disk_usage(into).free
            raise StorageError(
                f"a checkpoint cannot be copied to {into}: {error} ({free / 2**20:,.0f} MiB are free there; TMPDIR "
                "names another place)"
            ) from error

    def _files(self, name: str) -> list[str]:
        inside = (file.partition("/") for file in self._folder.names())
        return [file for first, _, file in inside if first == name and is_of_checkpoint(file)]

    def _patiently(self, do: Callable[[], None]) -> None:
        """Write, again after a failure, for some two minutes; not where access is denied or there is no bucket."""
        for seconds in RETRY_SECONDS:
            try:
                return do()
            except StorageError as error:
                if isinstance(error.__cause__, PermissionError | FileNotFoundError):
                    raise
                log.warning(f"warning: {error}; tried again in {seconds} s")
                time.sleep(seconds)
        do()
