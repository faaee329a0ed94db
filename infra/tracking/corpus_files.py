"""A corpus as one dataset of an MLflow run, and tags by which runs are found that read a file.

A run that reads 2,000 files has one dataset, not 2,000. The tags `sllm.files.0` to `sllm.files.f` hold the files: the
tag of a file is named after the first hex digit of its SHA-256, and has the first `KEY_DIGITS` of each, sorted, with
blanks between. A tag that would be longer than MLflow allows (some 700 files) is `*`: any file may be in it.
`sllm.paths.0` to `sllm.paths.f` hold, in the same way, the SHA-256 of the paths of all inputs.
"""

import dataclasses
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.paths import is_url
from pipeline.lineage import Artifact
from pipeline.redaction import redacted
from pipeline.shards.manifest import Manifest

FILES, PATHS = "sllm.files", "sllm.paths"
"""Beginnings of the names of tags: by the content of corpus files, by the paths of all inputs."""
DEV_FILES, UNUSED_FILES = "sllm.dev_files", "sllm.unused_files"
"""The same for the files of a corpus with documents in dev alone, and with none in train or dev."""
FILE_LIST = "corpus/files.jsonl"
"""Artifact of a run that made shards: one line per corpus file."""
OVERFULL = "*"
KEY_DIGITS = 10
"""40 bits: two of a million files have the same with a probability of 0.4; the list of files then decides."""
_TAG_CHARACTERS = 8000
_NAME_CHARACTERS, _SOURCE_CHARACTERS = 500, 60_000
"""MLflow's limits, the last one rounded down."""
_NAMES_SHOWN = 3
BETWEEN = " + "
"""Between names of a corpus that has several, and between the values of inputs that differ."""
_FILE_ENDINGS = re.compile(
    r"(\.(gz|zst|bz2|xz|lz4|jsonl|json|ndjson|txt|md|rst|csv|tsv|conllu|parquet|arrow))+$", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The corpus files that a job read, as one dataset."""

    name: str
    digest: str
    """SHA-256 (hex) over the sorted SHA-256 of the files; their paths and order do not count."""
    source: tuple[str, ...]
    """Patterns, or paths of the files, without secrets."""
    num_files: int


@dataclasses.dataclass(frozen=True)
class CorpusFile:
    """A line of `FILE_LIST`."""

    path: str
    sha256: str
    num_bytes: int
    """UTF-8 bytes of text."""
    documents: dict[str, int] | None
    """In the train and dev splits; None in shards that do not count them."""


def files_of(manifest: Manifest) -> list[CorpusFile]:
    """The corpus files of shards."""
    counts = [{"train": 0, "dev": 0} for _ in manifest.identity.inputs]
    for shard in manifest.shards:
        for index, documents in shard.documents_by_input.items():
            counts[index][shard.split] += documents
    is_counted = all(shard.documents_by_input for shard in manifest.shards)
    return [
        CorpusFile(file.path, file.sha256, file.num_bytes, count if is_counted else None)
        for file, count in zip(manifest.identity.inputs, counts, strict=True)
    ]


def list_of(files: Iterable[CorpusFile]) -> str:
    """The content of `FILE_LIST`."""
    return "".join(f"{json.dumps(dataclasses.asdict(file), ensure_ascii=False)}\n" for file in files)


def read_list(text: str) -> list[CorpusFile]:
    """The files in the content of `FILE_LIST`. Raises `ValueError` and `TypeError` where it is damaged."""
    return [CorpusFile(**json.loads(line)) for line in text.splitlines() if line]


def split_tags(files: Iterable[CorpusFile]) -> dict[str, str]:
    """The tags of files without documents in train: a model that was trained on the shards has not seen them."""
    untrained = [file for file in files if file.documents is not None and not file.documents["train"]]
    dev = [file.sha256 for file in untrained if file.documents and file.documents["dev"]]
    unused = [file.sha256 for file in untrained if file.documents and not file.documents["dev"]]
    return buckets(DEV_FILES, dev) | buckets(UNUSED_FILES, unused)


def corpus_of(inputs: Iterable[Artifact], patterns: Sequence[str]) -> Corpus | None:
    """The corpus among the inputs of a job; None where no input is a corpus file.

    `patterns` are the paths, globs and names that led to the files; without them the files' paths are the source.
    """
    files = [artifact for artifact in inputs if artifact.kind == "corpus"]
    if not files:
        return None
    given = patterns or [file.path for file in files]
    source = tuple(_shown(pattern) for pattern in given)
    return Corpus(corpus_name(given), corpus_digest(file.digest for file in files), source, len(files))


def corpus_digest(digests: Iterable[str]) -> str:
    """SHA-256 (hex) over the sorted SHA-256 (hex) of a corpus's files."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def corpus_name(patterns: Sequence[str]) -> str:
    """A name for people: of each pattern the last part before a wildcard, without file endings, joined by ` + `."""
    names = list(dict.fromkeys(_name_of(pattern) for pattern in patterns))
    more = len(names) - _NAMES_SHOWN
    shown = [*names[:_NAMES_SHOWN], *([f"{more} more"] if more > 0 else [])]
    return BETWEEN.join(shown)[:_NAME_CHARACTERS]


def source_of(corpus: Corpus) -> tuple[str, dict[str, Any]]:
    """MLflow's type and description of a corpus's source."""
    shown: list[str] = []
    left = _SOURCE_CHARACTERS
    for pattern in corpus.source:
        left -= 2 * len(json.dumps(pattern)) + 4
        if left < 0:
            break
        shown.append(pattern)
    more = len(corpus.source) - len(shown)
    uri = ", ".join(shown) + (f" and {more:,} more" if more else "")
    kinds = {urlsplit(pattern).scheme for pattern in shown if is_url(pattern)}
    return next(iter(kinds), "local"), {"uri": uri, "patterns": shown}


def input_tags(inputs: Sequence[Artifact]) -> dict[str, str]:
    """The tags by which a run is found from the content of its corpus files and the paths of its inputs."""
    files = [artifact.digest for artifact in inputs if artifact.kind == "corpus"]
    read = [path_digest(one.path) for one in inputs if one.kind in ("corpus", "shards", "model", "report")]
    return buckets(FILES, files) | buckets(PATHS, read)


def path_digest(path: str) -> str:
    """SHA-256 (hex) of an absolute path or a URL without secrets."""
    return hashlib.sha256(redacted(path).encode()).hexdigest()


def buckets(prefix: str, digests: Iterable[str]) -> dict[str, str]:
    """Tags that hold these SHA-256 (hex); a tag for each first digit that occurs."""
    keys: dict[str, set[str]] = defaultdict(set)
    for digest in digests:
        keys[bucket(prefix, digest)].add(digest[:KEY_DIGITS])
    most = (_TAG_CHARACTERS + 1) // (KEY_DIGITS + 1)
    return {
        name: " ".join(sorted(found)) if len(found) <= most else OVERFULL
        for name, found in sorted(keys.items())
    }


def bucket(prefix: str, digest: str) -> str:
    """Name of the tag that holds this SHA-256 (hex)."""
    return f"{prefix}.{digest[:1]}"


def is_in(tags: Mapping[str, str], prefix: str, digest: str) -> bool | None:
    """Whether the tags of a run hold this SHA-256 (hex); None where the list of files has to be read for it."""
    found = tags.get(bucket(prefix, digest), "")
    return None if found == OVERFULL else digest[:KEY_DIGITS] in found.split()


def _shown(pattern: str) -> str:
    """A pattern that means the same in any working folder, without secrets."""
    is_path = not is_url(pattern) and not pattern.startswith(("datasets:", "python-docs:"))
    return redacted(str(Path(pattern).absolute()) if is_path else pattern)


def _name_of(pattern: str) -> str:
    path = redacted(pattern.partition("?")[0] if is_url(pattern) and "*" not in pattern else pattern)
    parts = [part for part in path.removeprefix("datasets:").replace("://", "/").split("/") if part]
    fixed = [part for part in parts if not set("*?[") & set(part)]
    name = (fixed[-1] if fixed else "corpus").rstrip(":")
    return _FILE_ENDINGS.sub("", name) or name
