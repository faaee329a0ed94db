"""From the inputs of a configuration to the files that hold documents, in a fixed order."""

import collections
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import fsspec

from pipeline.config import DataConfig
from pipeline.corpus.streams import Compression, is_url
from pipeline.errors import CorpusError

Format = Literal["text", "jsonl", "parquet", "arrow", "csv", "conllu", "datasets"]

DATASETS_PREFIX = "datasets:"
PYTHON_DOCS = "python-docs:"

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".conllu": "conllu",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}


@dataclass(frozen=True)
class Source:
    """One file (or data set) of the corpus."""

    path: str
    """Local path or URL; for `datasets`, `NAME[:SPLIT]`."""
    name: str
    """Relative to the input it was found through, so without the place it lies at; part of document ids and digests.
    Files of several inputs may have the same."""
    format: Format
    compression: Compression = ""
    is_dev: bool = False
    """All its documents go to the dev split."""
    delimiter: str = ","
    """Between the cells of CSV."""
    shown_name: str = ""
    """For people: the name, or the path where another file has the same name."""


def find_sources(data: DataConfig) -> list[Source]:
    """The files of `data.inputs` in their order, those of a folder by name, then those of `data.dev_inputs`.

    Raises `CorpusError` for an input that is missing, empty, or of a format that its name does not tell.
    """
    if not data.inputs and not data.dev_inputs:
        raise CorpusError("there is nothing to read: name files or folders in data.inputs")
    found = [
        replace(source, is_dev=is_dev)
        for inputs, is_dev in ((data.inputs, False), (data.dev_inputs, True))
        for given in inputs
        for source in _sources_of(given, data)
    ]
    seen = collections.Counter(source.path for source in found)
    twice = [path for path, count in seen.items() if count > 1]
    if twice:
        raise CorpusError(
            f"input {twice[0]!r} is named twice, in data.inputs or data.dev_inputs; name it once"
        )
    names = collections.Counter(source.name for source in found)
    return [
        replace(source, shown_name=source.name if names[source.name] == 1 else source.path)
        for source in found
    ]


def _sources_of(given: str, data: DataConfig) -> list[Source]:
    if given.startswith(DATASETS_PREFIX):
        path = given.removeprefix(DATASETS_PREFIX)
        # A folder of this machine goes by its last name, a data set of a hub by its whole one.
        is_local = Path(path.partition(":")[0]).expanduser().is_dir()
        name = DATASETS_PREFIX + (PurePosixPath(path).name if is_local else path)
        return [Source(path=path, name=name, format="datasets")]
    paths = _list_url(given) if is_url(given) else _list_local(given)
    if not paths:
        raise CorpusError(f"input {given!r}: there is no such file, and no file in a folder of that name")
    sources = []
    for path, name in paths:
        suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
        compression = _COMPRESSIONS.get(suffixes[-1], "") if suffixes else ""
        suffix = (suffixes[:-1] if compression else suffixes)[-1:]
        format_: Format = _FORMATS.get(suffix[0], "text") if suffix else "text"
        if data.format != "auto":
            format_ = data.format
        if compression and format_ in ("parquet", "arrow"):
            raise CorpusError(f"input {path!r}: a {format_} file is read as it is; uncompress it first")
        sources.append(
            Source(
                path=path, name=name, format=format_, compression=compression, delimiter=data.delimiter or ","
            )
        )
    return sources


def _list_local(given: str) -> list[tuple[str, str]]:
    # Absolute, so that it means the same in every process.
    path = Path(given).expanduser().absolute()
    if path.is_file():
        return [(str(path), path.name)]
    if path.is_dir():
        root, files = path, path.rglob("*")
    elif any(character in given for character in "*?["):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
        root = Path(*parts[:fixed])
        files = root.glob(str(Path(*parts[fixed:])))
    else:
        return []
    listed = [(file.relative_to(root), file) for file in files if file.is_file()]
    visible = [(name, file) for name, file in listed if not any(part.startswith(".") for part in name.parts)]
    return sorted((str(file), name.as_posix()) for name, file in visible)


def _list_url(given: str) -> list[tuple[str, str]]:
    try:
        file_system, _, paths = fsspec.get_fs_token_paths(given, mode="rb")
        if len(paths) == 1 and paths[0] and file_system.isdir(paths[0]):
            root = paths[0].rstrip("/")
            paths = sorted(file_system.find(root))
        else:
            root = paths[0].rpartition("/")[0] if paths else ""
            paths = sorted(path for path in paths if file_system.exists(path))
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {given!r} cannot be listed: {error}") from error
    return [
        (file_system.unstrip_protocol(path), path.removeprefix(root).lstrip("/"))
        for path in paths
        if not any(part.startswith(".") for part in path.removeprefix(root).split("/"))
    ]
