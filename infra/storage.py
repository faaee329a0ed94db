"""A local folder or one at an fsspec URL: the store of shards. Files appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from pipeline.config.paths import is_url, resolved_path
from pipeline.errors import SllmError
from pipeline.lineage import digest_file
from pipeline.output_files import remove_written, write_whole

_WITH_FOLDERS = frozenset(
    ("arrow_hdfs", "file", "ftp", "hdfs", "local", "memory", "sftp", "smb", "ssh", "webdav", "webhdfs")
)
"""Protocols of file systems with folders, which must exist before a file in them. Object stores have none, and making
one would create a mistyped bucket."""


class StorageError(SllmError):
    """A file cannot be read or written: no space, no permission, no connection."""


class Folder:
    """Files by name (`tokenizer/tokenizer.json`) below a local path or an fsspec URL. It can be pickled."""

    def __init__(self, url: str) -> None:
        self._local = None if is_url(url) else Path(resolved_path(url)).absolute()
        self.url = url if self._local is None else str(self._local)
        """Absolute, so that it is the same in every process."""
        self._remote: Any = None
        if self._local is None:
            try:
                self._remote, root = fsspec.core.url_to_fs(url)
            except (OSError, ValueError, ImportError) as error:
                raise StorageError(f"output {url!r} cannot be used: {error}") from error
            self._root = root.rstrip("/")
            protocol = self._remote.protocol
            self._has_folders = bool(
                _WITH_FOLDERS & {protocol, *(() if isinstance(protocol, str) else protocol)}
            )

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.url,)  # a connection is not pickled: each process makes its own

    def check_bucket(self) -> None:
        """Raise `StorageError` where the bucket of an object store does not exist; buckets are never created."""
        if self._local is not None or self._has_folders:
            return
        bucket = self._root.lstrip("/").partition("/")[0]
        try:
            is_there = self._remote.exists(bucket)
        except PermissionError:  # who may write there need not be allowed to list
            return
        except Exception as error:  # each file system has errors of its own
            raise StorageError(f"{self.url!r} cannot be reached: {error}") from error
        if not is_there:
            raise StorageError(
                f"{self.url!r}: there is no bucket {bucket!r}; correct the name, or make it first"
            )

    def write(self, name: str, data: Any) -> None:
        """Write all of `data` (bytes or a buffer) or nothing; an older file of this name is replaced.

        Locally: temporary file, fsync, rename. Object stores show an object when it is complete.
        """
        try:
            if self._local is None:
                path = f"{self._root}/{name}"
                if self._has_folders:
                    self._remote.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._remote.pipe_file(path, bytes(data))
                return
            write_whole(self._local / name, data)
        except OSError as error:
            raise StorageError(f"{name} cannot be written to {self.url!r}: {error}") from error

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        try:
            if self._local is not None:
                return (self._local / name).read_bytes()
            return self._remote.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{name} cannot be read from {self.url!r}: {error}") from error

    def sha256(self, name: str) -> str | None:
        """SHA-256 (hex) of the file; None where there is none."""
        try:
            with self._open(name) as file:
                return digest_file(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{name} cannot be read from {self.url!r}: {error}") from error

    def lines(self, name: str) -> Iterator[bytes]:
        """The file's lines with their ends; no lines where there is no such file."""
        try:
            with self._open(name) as file:
                yield from file
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{name} cannot be read from {self.url!r}: {error}") from error

    def _open(self, name: str) -> Any:
        if self._local is not None:
            return (self._local / name).open("rb")
        return self._remote.open(f"{self._root}/{name}", "rb")

    def names(self) -> list[str]:
        """Names of all files below, sorted, without links; none where the folder does not exist."""
        if self._local is not None:
            files = (Path(folder, name) for folder, _, names in os.walk(self._local) for name in names)
            own = (file for file in files if file.is_file() and not file.is_symlink())
            return sorted(file.relative_to(self._local).as_posix() for file in own)
        self._remote.invalidate_cache()
        if not self._remote.exists(self._root):
            return []
        return sorted(path.removeprefix(self._root).lstrip("/") for path in self._remote.find(self._root))

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below, by its name."""
        if self._local is not None:
            return {name: (self._local / name).stat().st_size for name in self.names()}
        self._remote.invalidate_cache()
        if not self._remote.exists(self._root):
            return {}
        found = self._remote.find(self._root, detail=True)
        return {
            path.removeprefix(self._root).lstrip("/"): int(info["size"] or 0)
            for path, info in sorted(found.items())
        }

    def remove(self, names: list[str]) -> None:
        """Delete those of these files that exist, and local folders that become empty; links are not followed."""
        try:
            for name in names:
                if self._local is None:
                    with contextlib.suppress(FileNotFoundError):
                        self._remote.rm_file(f"{self._root}/{name}")
                    continue
                remove_written(self._local, [name])
        except OSError as error:
            raise StorageError(f"{self.url!r} cannot be cleared: {error}") from error
