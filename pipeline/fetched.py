"""Copies on this machine of models, tokenizers and single files at URLs, for libraries that read local files.

A copy is below the cache folder, in a folder named after the URL and its content, which appears whole or not at all;
processes and runs share it. Copies of models are not counted in `stream.cache_bytes`, and are never removed.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.paths import is_url, resolved_path
from pipeline.errors import ModelError
from pipeline.gguf import is_gguf, write_plain_folder
from pipeline.lineage import JobRecord, digest_file, digest_files, parse_record
from pipeline.output_files import MODEL_AND_TOKENIZER_FILES, RECORD_NAME, is_of_job, matches
from pipeline.remote import StorageError, explained, file_system

FOLDER = "models"
"""Folder of the copies, in the cache folder."""
GGUF_FOLDERS = "v1"
"""Beginning of the names of folders made from GGUF files; it changes when they would be written differently."""
_DIGEST_CHARACTERS = 16
_verified = set[tuple[Path, str]]()
"""Copies whose checksums this process has compared."""
_lock = threading.Lock()


def local_model(path: str, cache: str) -> str:
    """The local folder of a model or tokenizer: `path` itself, or for a URL the copy of its files below the folder
    `cache`; for a GGUF file the folder there with what the file holds.

    A copy of what a job of ours wrote is compared with the digest in its record. Raises `ModelError` where there is no
    model, it is unfinished, or a file is damaged; `StorageError` where it cannot be fetched.
    """
    if is_gguf(path):
        return _opened(local_file(path, cache), cache)
    if not is_url(path):
        return path
    url = path.rstrip("/")
    record = _record_at(url)
    if record is not None:
        if record.finished is None:
            raise ModelError(f"{url} is the unfinished output of {record.job}: run that again")
        if record.output.kind != "model":
            raise ModelError(f"{url} holds the {record.output.kind} of {record.job}, not a model")
        names, digest = sorted(record.files), record.output.digest
    else:
        found = _listed(url)
        names, digest = sorted(found), ""
        if not names:
            raise ModelError(f"there is no model or tokenizer at {url}: name the folder that a job wrote")
    stamp = digest or _stamp_of(found)
    with _lock:  # two threads would fetch the same files
        return str(_copy(url, names, stamp, digest, cache))


def local_file(path: str, cache: str) -> str:
    """The local path of one file: `path` itself, or for a URL a copy below the folder `cache`. Raises `StorageError`
    where it cannot be fetched."""
    if not is_url(path):
        return path
    folder, _, name = path.rpartition("/")
    system, root = file_system(path)
    try:
        info = system.info(root)
    except Exception as error:  # each file system has errors of its own
        raise StorageError(f"{path} cannot be fetched: {explained(error, path)}") from error
    with _lock:
        return str(_copy(folder, [name], _stamp_of({name: info}), "", cache) / name)


def _opened(file: str, cache: str) -> str:
    """The plain folder of the model in a GGUF file, made if it is missing; it is named after the file's content."""
    root, source = Path(resolved_path(cache), FOLDER, "gguf"), Path(file)
    if not source.is_file():
        raise ModelError(f"there is no file {file}: correct the path, or name a folder or hub name")
    folder = root / f"{GGUF_FOLDERS}-{digest_file(source)[:_DIGEST_CHARACTERS]}"
    with _lock, _alone(folder):
        if not folder.is_dir():
            aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
            try:
                write_plain_folder(source, aside)
                aside.rename(folder)
            except OSError as error:
                raise StorageError(
                    f"{file} cannot be written as a folder to {folder}: {error.strerror or error}; free some space, or "
                    "set stream.cache"
                ) from error
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return str(folder)


def _copy(url: str, names: list[str], stamp: str, digest: str, cache: str) -> Path:
    """The folder of the copy, fetched if it is missing or damaged."""
    folder = Path(resolved_path(cache), FOLDER, *_parts_of(url), stamp[:_DIGEST_CHARACTERS])
    if (folder, stamp) in _verified and _is_there(folder, names):
        return folder
    try:
        with _alone(folder):
            if not _is_there(folder, names) or (digest and digest_files(folder, names) != digest):
                _replace(folder, url, names, digest)
    except OSError as error:
        raise StorageError(
            f"{url} cannot be copied to {folder}: {error.strerror or error}; free some space, or set stream.cache"
        ) from error
    _verified.add((folder, stamp))
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A context in which no other process of this machine makes the same copy."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: the copy is made twice
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(folder: Path, url: str, names: list[str], digest: str) -> None:
    """Fetch the files into a new folder, compare the digest, and give it its name."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        _fetch(url, names, aside)
        if digest and digest_files(aside, names) != digest:
            raise ModelError(
                f"the model at {url} is damaged: its files have not the digest of its {RECORD_NAME}; copy it there "
                "again, or make it anew with --force"
            )
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fetch(url: str, names: list[str], folder: Path) -> None:
    system, root = file_system(url)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            system.get_file(f"{root.rstrip('/')}/{name}", str(folder / name))
        except FileNotFoundError as error:
            raise ModelError(
                f"{url} lacks {name}: copy it there again, or make it anew with --force"
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.filename == str(folder / name):
                raise  # of this machine
            raise StorageError(f"{url}/{name} cannot be fetched: {explained(error, url)}") from error


def _record_at(url: str) -> JobRecord | None:
    system, root = file_system(url)
    try:
        content = system.cat_file(f"{root.rstrip('/')}/{RECORD_NAME}")
    except FileNotFoundError:
        return None
    except Exception as error:
        raise StorageError(f"{url} cannot be read: {explained(error, url)}") from error
    return parse_record(content, url)


def _listed(url: str) -> dict[str, Mapping[str, Any]]:
    """The files of a model or tokenizer right at a URL that has no record."""
    system, root = file_system(url)
    try:
        system.invalidate_cache()
        found = system.find(root, maxdepth=1, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise StorageError(f"{url} cannot be listed: {explained(error, url)}") from error
    names = {path.removeprefix(root.rstrip("/")).lstrip("/"): info for path, info in found.items()}
    return {
        name: info
        for name, info in names.items()
        if is_of_job(name, "model") or any(matches(name, one) for one in MODEL_AND_TOKENIZER_FILES)
    }


def _stamp_of(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A digest that changes with the files, from their entries in the store."""
    keys = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
    entries = [f"{name} {[str(info.get(key)) for key in keys]}" for name, info in sorted(found.items())]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def _parts_of(url: str) -> list[str]:
    """Names of folders for a URL, without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    names = [parts.scheme, host, *PurePosixPath(parts.path.lstrip("/")).parts]
    return [re.sub(r"[^\w.\-]|^\.+", "_", name) for name in names if name]


def _is_there(folder: Path, names: list[str]) -> bool:
    return all((folder / name).is_file() for name in names)
