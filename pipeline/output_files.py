"""The files of an output folder: written whole or not at all. Names tell which files a job wrote.

Links are never followed: no job wrote their targets.
"""

import contextlib
import fnmatch
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

RECORD_NAME = "job.json"
CHECKPOINTS_NAME = "checkpoints"
PYTHON_DOCS_NAME = "corpus/python-docs.jsonl"
"""A corpus that is written before the job begins, since it is an input."""
REPORT_FOLDER = "report"
"""Folder of a comparison's report, beside the folders of its designs."""

_MODEL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("modeling_*.py", "configuration_*.py"),
)
_MLFLOW_FILES = (
    *("MLmodel", "requirements.txt", "python_env.yaml"),
    *("input_example.json", "serving_input_example.json"),
)
"""Of the folder of a model that is an MLflow model too."""
FILES = {
    "shards": (
        *("manifest.json", "rejected.jsonl", "train-[0-9]*.arrow", "dev-[0-9]*.arrow"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer/trained_on.sha256"),
        *("progress/plan.json", "progress/[0-9]*.json", PYTHON_DOCS_NAME),
    ),
    "model": (*_MODEL_FILES, *_MLFLOW_FILES, "segmenter.safetensors", "MODEL_CARD.md"),
    "report": (
        *("evaluation.json", "generated.json"),
        *("comparison.json", "comparison.md", "comparison.png", "comparison.svg"),
        *("graft.json", "graft.md", "graft.png", "graft.svg"),
    ),
}
"""By kind of output, patterns of the names of the files that its jobs write, except record and checkpoints."""
MODEL_AND_TOKENIZER_FILES = (
    *_MODEL_FILES,
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "tokenizer.model", "vocab.json"),
    *("vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)
"""Patterns of the names of the files from which a model or a tokenizer of anyone is loaded."""

_CHECKPOINT_FILES = (
    *("training_state.json", "checksums.sha256", "state-*-of-*.safetensors"),
    *(f"model/{name}" for name in _MODEL_FILES),
    *(".metadata.json", ".validate_storage_marker"),  # of Ray
)
_OF_RAY = ("checkpoint_manager_snapshot.json", ".validate_storage_marker")
_CHECKPOINT_NAMES = ("step-[0-9]*", ".step-*.partial", "checkpoint_[0-9]*")
_NOT_FOREIGN = ("mlflow.db*", "artifacts", "mlruns", "mlartifacts", "lost+found")
"""Names of an MLflow store, and of folders that file systems make."""
_ASIDE = re.compile(r"(?P<folder>(?:.*/)?)\.?(?P<name>[^/]+)\.\d+(?:-\d+)?\.partial", re.DOTALL)
"""Earlier versions used names without the leading dot and the thread; these match too."""


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a file name beside `path` to write to; the file is renamed to `path` at the end, or removed after an error.

    The parent folder must exist. Nothing is forced to disk: see `write_whole`. Raises `OSError`.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, data: Any) -> None:
    """Write all of `data` (bytes or a buffer) to `path`, or nothing, also when power is lost. Raises `OSError`.

    The parent folder is made; an older file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_bytes(data)
        to_disk(aside)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def half_written(name: str) -> str | None:
    """The final name of a file that `written_aside` left when its process was killed; None for other files."""
    match = _ASIDE.fullmatch(name)
    return match and match["folder"] + match["name"]


def written_files(root: str | Path, kind: str) -> list[str]:
    """Names of the files below `root` that a job of this kind writes, sorted; never links."""
    return sorted(name for name in _files(Path(root), _folders(kind)) if is_of_job(name, kind))


def is_of_job(name: str, kind: str) -> bool:
    """Whether a job that writes this kind of output writes a file of this name."""
    return any(matches(name, pattern) for pattern in FILES[kind])


def in_the_way(root: str | Path, kind: str, own: Iterable[str]) -> Iterator[str]:
    """Names below `root` that the job would write and that are not in `own`: files of others, and links."""
    root, own = Path(root), frozenset(own)
    folders = _folders(kind) | {CHECKPOINTS_NAME}
    for name in sorted({RECORD_NAME, *folders}):
        if (root / name).is_symlink() or (name in folders and (root / name).is_file()):
            yield name
    for folder in ("", *sorted(folders - {CHECKPOINTS_NAME})):
        inside = root / folder
        if folder and inside.is_symlink():
            continue
        for entry in _entries(inside):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if name not in own and is_of_job(name, kind) and (name != PYTHON_DOCS_NAME or entry.is_symlink()):
                yield name


def other_checkpoints(root: str | Path, fresh: bool) -> Iterator[str]:
    """Names of checkpoints from which the job would continue, though it did not write them; all of them if it is
    `fresh`."""
    folder = Path(root) / CHECKPOINTS_NAME
    for entry in _entries(folder):
        own = not fresh and not entry.is_symlink() and _is_checkpoint_name(entry.name)
        if not own and Path(entry.path, "training_state.json").is_file():
            yield f"{CHECKPOINTS_NAME}/{entry.name}"


def other_checkpoints_among(names: Iterable[str], fresh: bool) -> Iterator[str]:
    """As `other_checkpoints`, from the names of all files below an output."""
    for name in names:
        top, _, rest = name.partition("/")
        checkpoint, _, inside = rest.partition("/")
        if (top, inside) == (CHECKPOINTS_NAME, "training_state.json") and (
            fresh or not _is_checkpoint_name(checkpoint)
        ):
            yield f"{top}/{checkpoint}"


def is_never_foreign(name: str) -> bool:
    """Whether a name in an output is hidden, or of an MLflow store or a file system."""
    return name.startswith(".") or any(fnmatch.fnmatchcase(name, one) for one in _NOT_FOREIGN)


def foreign_entries(root: str | Path, kind: str, inputs: Iterable[str]) -> Iterator[str]:
    """Names in `root` that no job of ours wrote: files, links, folders that are not empty.

    Not counted: hidden names, an MLflow store, folders of other jobs (with a `job.json` in them), and `inputs` or
    folders with inputs.
    """
    root = Path(root)
    read = [os.path.realpath(path) for path in inputs]
    here = os.path.realpath(root)
    if any(path == here or here.startswith(f"{path.rstrip('/')}/") for path in read):
        return  # everything here may be an input
    for entry in sorted(_entries(root), key=lambda entry: entry.name):
        if is_never_foreign(entry.name):
            continue
        if entry.name == RECORD_NAME and not entry.is_symlink():
            continue
        where = os.path.realpath(root / entry.name)
        if any(path == where or path.startswith(f"{where}/") for path in read):
            continue
        if not entry.is_dir(follow_symlinks=False):
            if not (entry.is_file(follow_symlinks=False) and is_of_job(entry.name, kind)):
                yield entry.name
        elif (first := _first_foreign(Path(entry.path), entry.name, kind)) is not None:
            yield first


def has_checkpoints(root: str | Path) -> bool:
    """Whether a training job left a checkpoint, whole or unfinished."""
    return (Path(root) / CHECKPOINTS_NAME).is_dir()


def remove_written(root: str | Path, names: Iterable[str]) -> None:
    """Remove these files, and the folders that become empty; links and their targets stay."""
    root = Path(root)
    for name in names:
        path = root / name
        if _is_own(root, name):
            path.unlink()
            _remove_empty(path.parent, root)


def remove_checkpoints(root: str | Path) -> None:
    """Remove the files of checkpoints below the output `root` that a job wrote."""
    folder = Path(root) / CHECKPOINTS_NAME
    if not folder.is_dir() or folder.is_symlink():
        return
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False) and _is_checkpoint_name(entry.name):
            remove_checkpoint(Path(entry.path))
        elif entry.name in _OF_RAY and not entry.is_symlink():
            Path(entry.path).unlink()
    _remove_empty(folder, Path(root))


def is_of_checkpoint(name: str) -> bool:
    """Whether a job writes a file of this name, relative to the checkpoint's folder, into a checkpoint."""
    return any(matches(name, pattern) for pattern in _CHECKPOINT_FILES)


def is_below_checkpoints(name: str) -> bool:
    """Whether this is the name of a file of a checkpoint below an output (`checkpoints/step-000000010/...`), or of
    Ray's list of them."""
    top, _, rest = name.partition("/")
    checkpoint, _, inside = rest.partition("/")
    if top != CHECKPOINTS_NAME:
        return False
    if not inside:
        return checkpoint in _OF_RAY
    return _is_checkpoint_name(checkpoint) and is_of_checkpoint(inside)


def remove_checkpoint(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove one checkpoint, whole or unfinished: the files that a job wrote, except `keep`, and the folders that
    become empty."""
    if folder.is_symlink():
        return
    for name in list(_files(folder, frozenset({"model"}))):
        if is_of_checkpoint(half_written(name) or name) and name not in keep:
            (folder / name).unlink()
    _remove_empty(folder / "model", folder)
    _remove_empty(folder, folder.parent)


def _first_foreign(folder: Path, name: str, kind: str) -> str | None:
    """The first file below a folder that no job wrote; None where there is none."""
    entries = sorted(_entries(folder), key=lambda entry: entry.name)
    if any(entry.name == RECORD_NAME for entry in entries):
        return None
    for entry in entries:
        inside = f"{name}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if not entry.is_dir(follow_symlinks=False):
            if not is_of_job(inside, kind):
                return inside
        elif (first := _first_foreign(Path(entry.path), inside, kind)) is not None:
            return first
    return None


def _files(root: Path, folders: frozenset[str]) -> Iterator[str]:
    """Regular files in `root` and in these folders of it."""
    for folder in ("", *sorted(folders)):
        if folder and (root / folder).is_symlink():
            continue
        for entry in _entries(root / folder):
            if entry.is_file(follow_symlinks=False):
                yield f"{folder}/{entry.name}" if folder else entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _folders(kind: str) -> frozenset[str]:
    return frozenset(str(PurePosixPath(pattern).parent) for pattern in FILES[kind] if "/" in pattern)


def _is_checkpoint_name(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _CHECKPOINT_NAMES)


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern; `*` fits no `/`."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def _is_own(root: Path, name: str) -> bool:
    """Whether it is a regular file, reached from `root` without a link."""
    path = root / name
    between = [root / parent for parent in PurePosixPath(name).parents if parent.name]
    return (
        ".." not in PurePosixPath(name).parts
        and path.is_file()
        and not any(one.is_symlink() for one in (path, *between))
    )


def _remove_empty(folder: Path, root: Path) -> None:
    if folder != root and folder.is_dir() and not folder.is_symlink() and not _entries(folder):
        folder.rmdir()
