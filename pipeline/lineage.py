"""Lineage: artifacts, identified by the digest of their content, and the record of a job.

A job's record is `job.json` in the folder it wrote. No tracking server is needed: `inputs` lead from the record of a
model back to the corpus files.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError
from pipeline.names_in_folder import first_outside
from pipeline.output_files import CHECKPOINTS_NAME, FILES, RECORD_NAME, write_whole
from pipeline.unique_keys import read_json

MANIFEST_NAME = "manifest.json"
"""File of finished shards that says what is in them."""
PLAN_NAME = "progress/plan.json"
"""File of unfinished shards with the identity of the shards that are being made."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Something that a job read or wrote."""

    kind: str
    """`corpus`, `segmenter`, `tokenizer`, `shards`, `model` or `report`."""
    path: str
    """File, folder or URL; of a segmenter its name."""
    digest: str
    """SHA-256 of its content, hex; empty while the job that writes it has not finished."""
    run_id: str | None = None
    """The MLflow run that made it; None for what no job made."""


@dataclasses.dataclass(frozen=True)
class JobRecord:
    """One run of a job: its configuration, its inputs, its output."""

    job: str
    identity: str
    """SHA-256 of job, configuration and inputs; equal identities make equal outputs."""
    config: dict[str, Any]
    inputs: tuple[Artifact, ...]
    output: Artifact
    run_id: str
    metrics: dict[str, float]
    versions: dict[str, str]
    started: str
    """UTC, ISO 8601."""
    finished: str | None
    """UTC, ISO 8601; None while the job runs, and after a crash."""
    files: dict[str, int] = dataclasses.field(default_factory=dict)
    """Files of the output, relative, with their bytes."""
    user: str = ""
    """Who ran it; of a submitted job, who submitted it. Empty, as the next three, where it is not known."""
    host: str = ""
    """The machine that it was started on; of a submitted job, the node of its driver."""
    command: str = ""
    """The command line, quoted for a shell, secrets masked; of a submitted job, the one that submitted it."""
    ray_job: str = ""
    """Submission id of the Ray job that it ran in, or the job id of one that was not submitted."""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    """What jobs that read its output pass on: `segmenter`, `segmenter.digest`, `tokenizer.digest`, `corpus`."""

    @property
    def output_is_whole(self) -> bool:
        """Whether the job finished and each file it wrote is still there, with the size it had."""
        folder = Path(self.output.path)
        return self.finished is not None and all(
            _num_bytes(folder / name) == size for name, size in self.files.items()
        )


def identity(job: str, config_part: Mapping[str, Any], inputs: Sequence[Artifact]) -> str:
    """SHA-256 (hex) of everything that decides a job's output: its configuration and the digests of its inputs, not
    their paths."""
    decisive = {
        "job": job,
        "config": config_part,
        "inputs": [[artifact.kind, artifact.digest] for artifact in inputs],
    }
    canonical = json.dumps(decisive, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _num_bytes(file: Path) -> int | None:
    """Size of a file in bytes; None where there is no file of this name."""
    try:
        return file.stat().st_size if file.is_file() else None
    except (OSError, ValueError):  # such as a name that is too long
        return None


def record_text(record: JobRecord) -> str:
    """The content of `job.json`."""
    return json.dumps(dataclasses.asdict(record), indent=2, ensure_ascii=False) + "\n"


def write_record(folder: str | Path, record: JobRecord) -> None:
    """Write `job.json` into `folder` (made if missing): it appears whole or not at all."""
    write_whole(Path(folder) / RECORD_NAME, record_text(record).encode())


def read_record(folder: str | Path) -> JobRecord | None:
    """The record in `folder`; None where there is no such file.

    Raises `ConfigError` for a `job.json` that is not one of ours. The output's path becomes `folder`, so that a folder
    can be moved.
    """
    path = Path(folder) / RECORD_NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise ConfigError(
            f"cannot read the job record {path}: {error}; move it away to start anew"
        ) from error
    return parse_record(text, str(folder))


def parse_record(text: bytes, folder: str) -> JobRecord:
    """The record with this content; `folder` is its location. Raises `ConfigError` where it is no record of ours."""
    path = f"{folder.rstrip('/')}/{RECORD_NAME}"
    try:
        tree = read_json(text, RECORD_NAME)
    except ValueError as error:
        raise ConfigError(
            f"cannot read the job record {path}: {error}; move it away to start anew"
        ) from error
    try:
        record = _record_type().validate_python({**tree, "output": {**tree["output"], "path": str(folder)}})
        record_text(record).encode()  # raises for lone surrogates, which could not be written again
        names = [*(artifact.path for artifact in (record.output, *record.inputs)), *record.files]
        if record.output.kind not in FILES or any("\0" in name for name in names):
            raise ValueError(f"its output is {record.output.kind!r}, or a name holds a null character")
        if (outside := first_outside(record.files)) is not None:
            raise ValueError(f"it names the file {outside!r}, which is not in the folder")
        return record
    except (KeyError, TypeError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(
            f"{path} is not the record of a job of ours ({reason}); use another folder"
        ) from error


@functools.cache
def _record_type() -> TypeAdapter[JobRecord]:
    """Made at its first use: making it takes longer than reading a record."""
    return TypeAdapter(JobRecord)


def identity_digest(value: object) -> str:
    """SHA-256 (hex) of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_file(file: str | Path | BufferedIOBase) -> str:
    """SHA-256 (hex) of a file's bytes, or of the rest of an open file. Raises `OSError`."""
    if isinstance(file, str | Path):
        with Path(file).open("rb") as stream:
            return digest_file(stream)
    return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: str | Path) -> str:
    """SHA-256 (hex) of the relative names and contents of the files below `path`, in sorted order.

    The record, checkpoints and hidden files are left out: they do not belong to the result.
    """
    return digest_files(path, content_files(path))


def digest_files(path: str | Path, names: Iterable[str]) -> str:
    """SHA-256 (hex) of these names of files below `path`, and of their contents."""
    return digest_of({name: digest_file(Path(path) / name) for name in names})


def digest_of(digests: Mapping[str, str]) -> str:
    """SHA-256 (hex) of names of files and of the SHA-256 of each."""
    total = hashlib.sha256()
    for name in sorted(digests, key=PurePosixPath):
        total.update(f"{digests[name]} {name}\n".encode())
    return total.hexdigest()


def is_content(name: str) -> bool:
    """Whether a file of this relative name belongs to a result: record, checkpoints and hidden files do not."""
    parts = name.split("/")
    return name != RECORD_NAME and parts[0] != CHECKPOINTS_NAME and not any(one[:1] == "." for one in parts)


def content_files(path: str | Path) -> dict[str, int]:
    """Relative names (sorted, `/` between parts) and sizes in bytes of the files in a folder."""
    root = Path(path)
    found = _walk(root, root, {root.resolve()})
    return {file.relative_to(root).as_posix(): file.stat().st_size for file in sorted(found)}


def _walk(root: Path, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Links are followed, since the hub's cache consists of them; no folder is entered twice."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (
                not (folder == root and entry.name == CHECKPOINTS_NAME)
                and (real := entry.resolve()) not in seen
            ):
                seen.add(real)
                yield from _walk(root, entry, seen)
        elif entry.is_file() and not (folder == root and entry.name == RECORD_NAME):
            yield entry


def describe_output(kind: str, path: str | Path, run_id: str | None = None) -> Artifact:
    """The artifact at `path`, with its digest.

    The digest of shards is that of their manifest, which holds the SHA-256 of each: the shards are not read again.
    """
    path = Path(path)
    manifest = path / MANIFEST_NAME
    if path.is_file():
        digest = digest_file(path)
    elif kind == "shards" and manifest.is_file():
        digest = digest_file(manifest)
    else:
        digest = digest_folder(path)
    return Artifact(kind, str(path), digest, run_id)


def artifact_of(path: str | Path) -> Artifact:
    """The artifact at `path`: the output of the job recorded there; without a record (a corpus file, a downloaded
    model) its files.

    Raises `ConfigError` where there is nothing, or only the unfinished output of a job.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"there is nothing at {path}: run the job that makes it first, or correct the path")
    record = read_record(path)
    if record is None:
        return describe_output(_guess_kind(path), path)
    if record.finished is None:
        raise ConfigError(
            f"{path} is the unfinished output of {record.job} (run {record.run_id}): run that again"
        )
    return record.output


def _guess_kind(path: Path) -> str:
    return kind_of(lambda name: (path / name).is_file())


def kind_of(holds: Callable[[str], bool]) -> str:
    """The kind of a folder without a record, by the names of its files."""
    for name, kind in ((MANIFEST_NAME, "shards"), ("config.json", "model"), ("tokenizer.json", "tokenizer")):
        if holds(name):
            return kind
    return "corpus"
