"""Whether artifacts are still what was recorded: their content is read and compared."""

import dataclasses
from pathlib import Path

from infra.storage import Folder, StorageError
from jobs.lineage.node import LineageNode
from jobs.lineage.records import NOT_THERE
from jobs.runner.output.folder import record_at
from pipeline.config.paths import is_url
from pipeline.corpus.file_names import path_on_disk
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import (
    MANIFEST_NAME,
    Artifact,
    digest_file,
    digest_folder,
    digest_of,
)
from pipeline.shards.manifest import Manifest
from pipeline.shards.verification import damaged_shards


def verified(node: LineageNode) -> LineageNode:
    """The tree with `is_verified` of each node upstream: corpus files, shards, models and reports are read whole, each
    once.

    A segmenter or tokenizer is not read: shards hold its digest.
    """
    return _verified(node, {})


def is_as_recorded(node: LineageNode) -> bool:
    """Whether nothing in a tree that was read differs from what was recorded."""
    return node.is_verified is not False and all(is_as_recorded(each) for each in node.made_from)


def _verified(node: LineageNode, known: dict[Artifact, tuple[bool | None, str | None]]) -> LineageNode:
    if node.artifact not in known:
        known[node.artifact] = _checked(node.artifact)
    is_same, found = known[node.artifact]
    return dataclasses.replace(
        node,
        is_verified=is_same,
        note=node.note
        if is_same or found is None
        else found
        if node.note is None
        else f"{node.note}; {found}",
        made_from=tuple(_verified(each, known) for each in node.made_from),
    )


def _checked(artifact: Artifact) -> tuple[bool | None, str | None]:
    """Whether an artifact is as recorded, and how it differs; None for one that is not read."""
    if artifact.kind not in ("corpus", "shards", "model", "report") or not artifact.digest:
        return None, None
    try:
        digest = _digest(artifact)
    except (OSError, StorageError) as error:
        return False, f"cannot be read: {error}" if not isinstance(error, FileNotFoundError) else NOT_THERE
    except (ConfigError, ShardError) as error:
        return False, f"changed: {error}"
    if digest is None:
        return False, NOT_THERE
    return (
        digest == artifact.digest,
        None if digest == artifact.digest else f"changed: its SHA-256 is {digest[:12]}",
    )


def _digest(artifact: Artifact) -> str | None:
    """SHA-256 of what is at the path; None where there is nothing. Raises `ShardError` for damaged shards."""
    path = artifact.path
    if artifact.kind == "corpus":
        if not is_url(path):
            return digest_file(path_on_disk(path))
        parent, _, name = path.rstrip("/").rpartition("/")
        return Folder(parent).sha256(name)
    folder = Folder(path)
    if artifact.kind == "shards":
        content = folder.read(MANIFEST_NAME)
        if content is None:
            return None
        manifest = Manifest.parse(content, path)
        if damaged := damaged_shards(manifest.shards, folder.sha256):
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            raise ShardError(f"{damaged[0].file}{more} missing or damaged")
        return folder.sha256(MANIFEST_NAME)
    record = record_at(path)
    if record is not None and record.files:
        digests = {name: folder.sha256(name) for name in record.files}
        return digest_of({name: digest or "" for name, digest in digests.items()})
    return None if is_url(path) else digest_folder(path) if Path(path).is_dir() else digest_file(path)
