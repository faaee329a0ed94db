"""The output folder of a job and its record: a local folder or one at a URL."""

from collections.abc import Iterable
from pathlib import Path

from infra.storage import Folder
from jobs.runner.output.checks import OutputFolder
from jobs.runner.output.local import LocalOutputFolder
from jobs.runner.output.remote import RemoteOutputFolder
from pipeline.config.paths import is_url, resolved_path
from pipeline.errors import ConfigError
from pipeline.lineage import (
    MANIFEST_NAME,
    Artifact,
    JobRecord,
    artifact_of,
    digest_of,
    is_content,
    kind_of,
    parse_record,
    read_record,
)
from pipeline.output_files import RECORD_NAME


def open_output(output: str, kind: str) -> OutputFolder:
    """The folder of this output. Raises `StorageError` for a URL where nothing can be written."""
    if is_url(output):
        return RemoteOutputFolder(output, kind)
    return LocalOutputFolder(resolved_path(output), kind)


def check_new(output: str, kind: str, inputs: Iterable[str], force: bool) -> None:
    """Raise `ConfigError`, before any work, where a new job may not write to `output`."""
    folder = open_output(output, kind)
    if folder.read() is None:
        folder.check(None, inputs, force)


def output_folder(output: str | None, needs: str) -> str:
    """`output`, a folder or URL. Raises `ConfigError`, with the text `needs`, for none."""
    if output is None:
        raise ConfigError(needs)
    return resolved_path(output)


def record_at(path: str) -> JobRecord | None:
    """The record of the job that wrote a folder or URL; None where there is none."""
    if not is_url(path):
        return read_record(path)
    content = Folder(path).read(RECORD_NAME)
    return None if content is None else parse_record(content, path)


def artifact_at(path: str) -> Artifact:
    """As `artifact_of`, for a URL too: what a job wrote, a folder of shards, of a model or of a tokenizer, or a file
    (which is read for its digest).

    Raises `ConfigError` where there is nothing, or only the unfinished output of a job.
    """
    if not is_url(path):
        return artifact_of(path)
    record = record_at(path)
    if record is not None and record.finished is not None:
        return record.output
    if record is not None:
        raise ConfigError(
            f"{path} is the unfinished output of {record.job} (run {record.run_id}): run that again"
        )
    folder = Folder(path)
    is_web = path.lower().startswith(("http://", "https://"))  # where listing means reading pages
    names = [] if is_web else [name for name in folder.names() if name and is_content(name)]
    kind = kind_of(names.__contains__)
    if kind == "shards":
        return Artifact(kind, path, folder.sha256(MANIFEST_NAME) or "")
    if kind != "corpus":
        return Artifact(kind, path, digest_of({name: folder.sha256(name) or "" for name in names}))
    parent, _, name = path.rstrip("/").rpartition("/")
    if digest := Folder(parent).sha256(name):
        return Artifact("corpus", path, digest)
    raise ConfigError(
        f"there is nothing at {path}: run the job that makes it first, or correct the URL (of a corpus, name a file)"
    )


def absolute(path: str) -> str:
    """An absolute path; names and URLs are unchanged."""
    return str(Path(path).absolute()) if Path(path).exists() else path
