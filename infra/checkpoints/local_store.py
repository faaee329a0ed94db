"""Checkpoints in a folder of this machine, or on a file system that all nodes share."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.errors import TrainingError
from pipeline.output_files import is_of_checkpoint, remove_checkpoint, to_disk, write_whole
from pipeline.training.checkpoint import CHECKSUMS_FILE, STATE_FILE, Checkpoint, digests, files_in, writing

STEP_NAME = re.compile(r"step-(\d{9,})")
"""Name of a checkpoint. Those of Ray Train, which earlier versions used, are `checkpoint_...`."""

Written = dict[str, tuple[str, int]]
"""By a file's name, relative to the checkpoint's folder: SHA-256 (hex) and size in bytes."""


class LocalStore:
    """The folder that has the checkpoints; each is written as `.step-....partial`, then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def writing(self, name: str) -> AbstractContextManager[None]:
        """A context in which errors of writing name the checkpoint and the free space."""
        return writing(self.folder / name)

    def found(self) -> Iterator[tuple[int, str]]:
        """Step and name of each checkpoint, damaged ones too; names and links of others are not ours."""
        for path in self.folder.glob("*"):
            if path.is_symlink() or not path.is_dir():
                continue
            if match := STEP_NAME.fullmatch(path.name):
                if any(is_of_checkpoint(file.name) for file in path.iterdir()):
                    yield int(match[1]), path.name
            elif path.name.startswith("checkpoint_") and self.is_whole(path.name):
                try:
                    step = Checkpoint(path).state["step"]
                except TrainingError:
                    step = -1
                yield step, path.name

    def is_whole(self, name: str) -> bool:
        """Whether the file that is written last is there."""
        return (self.folder / name / STATE_FILE).is_file()

    def unfinished(self) -> list[str]:
        """Names of what killed runs left."""
        return [path.name for path in self.folder.glob(".step-*.partial")]

    def remove(self, name: str) -> None:
        """Remove the files of a checkpoint that a job wrote."""
        remove_checkpoint(self.folder / name)

    def put(self, name: str, write: Callable[[Path], None], rank: int) -> tuple[Written, bytes]:
        """Write this rank's files -> what was written, and the content of the state, which is not there yet."""
        stage, partial = self.folder / f".{name}.{rank}.partial", self.folder / f".{name}.partial"
        remove_checkpoint(stage)
        stage.mkdir(parents=True, exist_ok=True)
        try:
            write(stage)
            written, state = written_in(stage)
            for file in written:
                if file != STATE_FILE:
                    to_disk(stage / file)
                    (partial / file).parent.mkdir(parents=True, exist_ok=True)
                    (stage / file).replace(partial / file)
            return written, state
        finally:
            remove_checkpoint(stage)  # unfinished files take space on a full disk

    def complete(self, name: str, written: Written, checksums: bytes, state: bytes) -> None:
        """Make a checkpoint of the files of all ranks. Raises `TrainingError` where one is missing."""
        partial, final = self.folder / f".{name}.partial", self.folder / name
        for file, (_, size) in written.items():
            path = partial / file
            if file != STATE_FILE and (not path.is_file() or path.stat().st_size != size):
                raise TrainingError(
                    f"{file}, which another node wrote to {self.folder}, is not there: name a folder that all nodes "
                    "share, or a URL"
                )
        remove_checkpoint(partial, keep=written)
        write_whole(partial / CHECKSUMS_FILE, checksums)
        write_whole(partial / STATE_FILE, state)
        remove_checkpoint(final)
        try:
            partial.rename(final)
        except OSError as error:
            raise TrainingError(
                f"{final} is in the way of a checkpoint: move it away ({error.strerror})"
            ) from error
        to_disk(self.folder)


def written_in(stage: Path) -> tuple[Written, bytes]:
    """Digest and size of each file that a rank wrote to a folder, and the content of the state (none: empty)."""
    names = files_in(stage)
    found = {name: (digest, (stage / name).stat().st_size) for name, digest in digests(stage, names).items()}
    return found, (stage / STATE_FILE).read_bytes() if STATE_FILE in found else b""
