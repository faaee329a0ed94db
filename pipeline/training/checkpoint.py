"""Checkpoints from which any number of workers and any engine can continue.

Each rank writes one safetensors file with its contiguous elements of each parameter: the fp32 weight, AdamW's two
moments, and the average of the weights if there is one. A reader takes the elements that it needs from any of the
files. So world size, ZeRO stage, offload and engine may change between writing and reading, without a conversion. An
element that no file has is an error.

`checksums.sha256` has the SHA-256 of every file, as `sha256sum` writes it. `training_state.json` is written last: a
folder without it is no checkpoint. Checkpoints of earlier versions have no checksums; they are read as they are.

Frozen weights are not in a checkpoint: they come from the models that the job reads.
"""

import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.lineage import digest_file
from pipeline.output_files import to_disk

MAX_WORKERS = 2**20
DIGEST_THREADS = 4
CHECKSUMS = "checksums"
"""Key of the state that names the file of checksums."""
STATE_FILE, CHECKSUMS_FILE = "training_state.json", "checksums.sha256"
MODEL_FOLDER = "model"
WEIGHT, AVERAGE, BUFFER = "weight", "average", "buffer"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's running means of gradients and of their squares."""


@dataclass(frozen=True)
class Part:
    """Contiguous elements of one parameter that this rank keeps, with their optimizer state."""

    name: str
    shape: tuple[int, ...]
    """Shape of the whole parameter."""
    start: int
    """Index of the first element in the flattened parameter."""
    tensors: Mapping[str, Tensor]
    """Flat fp32 views of the same length: `weight` and `MOMENTS`. Writing to them changes the training state."""
    is_copy: bool = False
    """Whether rank 0 has the same elements and writes them."""

    def read(self, kind: str) -> Tensor:
        """`weight` or one of `MOMENTS`: a vector of the elements of this part."""
        return self.tensors[kind]

    def write(self, kind: str, values: Tensor) -> None:
        """Replace `weight` or one of `MOMENTS` by a vector of the elements of this part."""
        self.tensors[kind].copy_(values)


def snapshot(
    parts: Iterable[Part], averages: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Copies on the CPU of the elements that this rank writes, in their shapes: training may continue meanwhile."""
    found: dict[str, Tensor] = {}
    for part in parts:
        if part.is_copy:
            continue
        for kind in (WEIGHT, *MOMENTS):
            found[_key(kind, part.start, part.name)] = _copy(part.read(kind))
        if part.name in averages:
            found[_key(AVERAGE, part.start, part.name)] = _copy(averages[part.name])
    return found | {_key(BUFFER, 0, name): _copy(value.flatten()) for name, value in buffers.items()}


def write_state(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any], rank: int) -> None:
    """Write this rank's file; rank 0 also writes `state`, which must hold `world_size` and `step`.

    `tensors`: vectors of elements by name.
    """
    path = folder / _file_name(rank, state["world_size"])
    save_file(tensors, path, metadata={"format": "pt"})
    to_disk(path)
    if rank == 0:
        (folder / STATE_FILE).write_text(json.dumps(state | {CHECKSUMS: CHECKSUMS_FILE}))
        to_disk(folder / STATE_FILE)


def files_in(folder: Path) -> list[str]:
    """Names of all files below a folder, sorted, `/` between parts."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of these files in a folder, in several threads. Raises `OSError`."""
    names = list(names)
    with ThreadPoolExecutor(min(DIGEST_THREADS, len(names) or 1)) as threads:
        return dict(zip(names, threads.map(digest_file, (folder / name for name in names)), strict=True))


def checksums_text(digests: Mapping[str, str]) -> str:
    """The content of `checksums.sha256`."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def parse_checksums(text: str) -> dict[str, str]:
    """The SHA-256 of each file. Raises `ValueError` for other text."""
    lines = (line.partition("  ") for line in text.splitlines())
    found = {name: digest for digest, _, name in lines}
    if checksums_text(found) != text:
        raise ValueError(f"{CHECKSUMS_FILE} is no list of checksums")
    return found


def verify(folder: Path, below: str = "", share: tuple[int, int] = (0, 1)) -> None:
    """Raise `TrainingError` where a file of the checkpoint in `folder` is not the one that was written.

    `below`: the beginning of the names of the files that are read; `share` (i, n): every n-th of them from the i-th.
    """
    try:
        # The state tells whether there are checksums, so that their loss is noticed.
        if not (folder / CHECKSUMS_FILE).exists() and CHECKSUMS not in _read_state(folder):
            return
        listed = parse_checksums((folder / CHECKSUMS_FILE).read_text())
        world_size = _read_state(folder)["world_size"]
        expected = {STATE_FILE, *(_file_name(rank, world_size) for rank in range(world_size)), *listed}
        mine = sorted(name for name in expected if name.startswith(below))[share[0] :: share[1]]
        for name, digest in digests(folder, mine).items():
            if listed.get(name) != digest:
                raise ValueError(f"{name} has not the checksum with which it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error


def damaged(folder: object, reason: object) -> TrainingError:
    """The error for a checkpoint that cannot be used."""
    return TrainingError(
        f"the checkpoint in {folder} is damaged, or of an earlier version ({reason}): remove that "
        "folder to go on from the one before, or start anew with --force"
    )


class Checkpoint:
    """A checkpoint on disk: its `state`, and any contiguous elements of its parameters."""

    def __init__(self, folder: Path) -> None:
        """Raises `TrainingError` where a file is missing or damaged."""
        self.folder = folder
        try:
            self.state = _read_state(folder)
            world_size = self.state["world_size"]
            files = [
                safe_open(folder / _file_name(rank, world_size), framework="pt") for rank in range(world_size)
            ]
            self._runs: dict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
            for file in files:
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    kind, start, name = key.split("|", 2)
                    self._runs[kind, name].append((int(start), file.get_slice(key)))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise damaged(folder, error) from error

    @property
    def has_average(self) -> bool:
        """Whether it contains an average of the weights."""
        return any(kind == AVERAGE for kind, _ in self._runs)

    def read(self, kind: str, name: str, start: int, size: int) -> Tensor:
        """Elements `start` to `start + size` of a flattened parameter, a vector.

        Raises `TrainingError` if one is missing.
        """
        pieces = []
        reached = start
        for first, run in sorted(self._runs[kind, name], key=lambda found: found[0]):
            last = min(first + run.get_shape()[0], start + size)
            if first <= reached < last:
                pieces.append(run[reached - first : last - first])
                reached = last
        if reached < start + size or not pieces:
            raise TrainingError(
                f"the checkpoint in {self.folder} lacks {kind} of {name} from element {reached}: it is damaged, or "
                "the model is another one; start anew with --force"
            )
        return torch.cat(pieces)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context in which errors of writing become a `TrainingError` that names folder and free space."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        near = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
        free = shutil.disk_usage(near).free
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(
            f"{folder} could not be written: {reason} ({free / 2**20:,.0f} MiB are free there); make room and run the "
            "same command again, it goes on from the last whole checkpoint"
        ) from error


def finish(writing: Future[None] | None) -> None:
    """Wait for a checkpoint that is being written. Raises `TrainingError` where writing failed."""
    if writing is None:
        return
    try:
        writing.result()
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"a checkpoint could not be written: {error}") from error


class BackgroundWriter:
    """Writes one checkpoint at a time in its own thread; the next call raises its error."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Run `job` after the previous one."""
        self.wait()
        self._running = self._thread.submit(job)

    def check(self) -> None:
        """Raise the error of what was written, without waiting."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises `TrainingError` where writing failed."""
        running, self._running = self._running, None
        finish(running)


def _read_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint. Raises `OSError`, `ValueError`, `KeyError` or `TypeError` where it is damaged."""
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    world_size, step = state["world_size"], state["step"]
    if not (type(world_size) is type(step) is int and 0 < world_size <= MAX_WORKERS and step >= 0):
        raise ValueError(f"world_size {world_size!r} and step {step!r} in {STATE_FILE}")
    return state


def _key(kind: str, start: int, name: str) -> str:
    return f"{kind}|{start}|{name}"


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _file_name(rank: int, world_size: int) -> str:
    return f"state-{rank:05d}-of-{world_size:05d}.safetensors"
