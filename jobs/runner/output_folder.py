"""The output folder of a job and its record: a local folder, or for shards also a URL."""

from collections.abc import Iterable
from pathlib import Path

from infra.storage import Folder
from jobs.runner.local_output import LocalOutputFolder
from jobs.runner.output_checks import OutputFolder
from jobs.runner.remote_output import RemoteOutputFolder
from pipeline.config.paths import is_url, resolved_path
from pipeline.errors import ConfigError
from pipeline.lineage import MANIFEST_NAME, Artifact, JobRecord, artifact_of, parse_record, read_record
from pipeline.output_files import RECORD_NAME


def open_output(output: str, kind: str) -> OutputFolder:
    """The folder of this output. Raises `ConfigError` for a URL where a local folder is needed."""
    if is_url(output):
        if kind != "shards":
            raise not_a_folder(output)
        return RemoteOutputFolder(output, kind)
    return LocalOutputFolder(resolved_path(output), kind)


def check_new(output: str, kind: str, inputs: Iterable[str], force: bool) -> None:
    """Raise `ConfigError`, before any work, where a new job may not write to `output`."""
    folder = open_output(output, kind)
    if folder.read() is None:
        folder.check(None, inputs, force)


def output_folder(output: str | None, needs: str) -> str:
    """`output`, which must be a local folder. Raises `ConfigError`, with the text `needs`, for none and for a URL."""
    if output is None:
        raise ConfigError(needs)
    if is_url(output):
        raise not_a_folder(output)
    return resolved_path(output)


def not_a_folder(output: str) -> ConfigError:
    """The error for an output at a URL, which only `sllm prepare` can write."""
    return ConfigError(f"output={output} must be a folder that every node reaches, not a URL: mount it")


def record_at(path: str) -> JobRecord | None:
    """The record of the job that wrote a folder or URL; None where there is none."""
    if not is_url(path):
        return read_record(path)
    content = Folder(path).read(RECORD_NAME)
    return None if content is None else parse_record(content, path)


def artifact_at(path: str) -> Artifact:
    """As `artifact_of`, for a URL too: shards that a job wrote, other shards, or a file (which is read for its digest).

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
    if digest := Folder(path).sha256(MANIFEST_NAME):
        return Artifact("shards", path, digest)
    parent, _, name = path.rstrip("/").rpartition("/")
    if digest := Folder(parent).sha256(name):
        return Artifact("corpus", path, digest)
    raise ConfigError(
        f"there is nothing at {path}: correct the URL, or name a file (not a folder) of the corpus"
    )


def absolute(path: str) -> str:
    """An absolute path; names and URLs are unchanged."""
    return str(Path(path).absolute()) if Path(path).exists() else path
