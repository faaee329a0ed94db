"""A local folder or one at an fsspec URL: the store of shards. Files appear whole or not at all."""

import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config.paths import is_url, resolved_path
from pipeline.lineage import digest_file
from pipeline.output_files import remove_written, to_disk, write_whole, written_aside
from pipeline.remote import StorageError, explained, file_system

_WITH_FOLDERS = frozenset(
    ("arrow_hdfs", "file", "ftp", "hdfs", "local", "memory", "sftp", "smb", "ssh", "webdav", "webhdfs")
)
"""Protocols of file systems with folders, which must exist before a file in them. Object stores have none, and making
one would create a mistyped bucket."""


log = logging.getLogger("sllm")

NOTICE_SECONDS = 30.0
"""Seconds after which a line says that an operation on a store goes on: the client tries again on its own, silently."""
MODEL_IS_WHOLE = "config.json"
_MISSING = (FileNotFoundError, NotADirectoryError)


class Folder:
    """Files by name (`tokenizer/tokenizer.json`) below a local path or an fsspec URL. It can be pickled."""

    def __init__(self, url: str) -> None:
        self._local = None if is_url(url) else Path(resolved_path(url)).absolute()
        self.url = url if self._local is None else str(self._local)
        """Absolute, so that it is the same in every process."""
        self._remote: Any = None
        if self._local is None:
            self._remote, root = file_system(url)
            self._root = root.rstrip("/")
            protocol = self._remote.protocol
            self._has_folders = bool(
                _WITH_FOLDERS & {protocol, *(() if isinstance(protocol, str) else protocol)}
            )

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.url,)  # a connection is not pickled: each process makes its own

    def check_bucket(self) -> None:
        """Raise `StorageError` where nothing can be written: on a web server, or where the bucket of an object store
        does not exist, since buckets are never created."""
        if self.url.lower().startswith(("http://", "https://")):
            raise StorageError(
                f"{self.url!r} is on a web server, which is not written to: name a folder, or a URL of a store"
            )
        if self._local is not None or self._has_folders:
            return
        bucket = self._root.lstrip("/").partition("/")[0]
        try:
            if self._remote.exists(bucket):
                return
            self._remote.ls(bucket)  # since s3fs answers "no" for any reason, this one tells the reason
        except FileNotFoundError as error:
            raise StorageError(
                f"{self.url!r}: there is no bucket {bucket!r}; correct the name, or make it first"
            ) from error
        except PermissionError:  # who may write there need not be allowed to list
            return
        except Exception as error:  # each file system has errors of its own
            raise StorageError(f"{self.url!r} cannot be reached: {explained(error, self.url)}") from error

    def write(self, name: str, data: Any) -> None:
        """Write all of `data` (bytes or a buffer) or nothing; an older file of this name is replaced.

        Locally: temporary file, fsync, rename. Object stores show an object when it is complete.
        """
        with (
            self._explained(f"{name} cannot be written to", FileNotFoundError),
            self._noticed(f"writing {name} to"),
        ):
            if self._local is None:
                self._remote.pipe_file(self._path(name, for_writing=True), bytes(data))
            else:
                write_whole(self._local / name, data)

    def put(self, name: str, file: Path) -> None:
        """As `write`, with the content of a local file, which may be larger than memory."""
        with (
            self._explained(f"{name} cannot be written to", FileNotFoundError),
            self._noticed(f"writing {name} to"),
        ):
            if self._local is None:
                self._remote.put_file(str(file), self._path(name, for_writing=True))
            else:
                (self._local / name).parent.mkdir(parents=True, exist_ok=True)
                with written_aside(self._local / name) as aside:
                    shutil.copyfile(file, aside)
                    to_disk(aside)

    def get(self, name: str, path: Path) -> None:
        """Copy a file from here to a local one, whose folder must exist. Raises `StorageError`, `FileNotFoundError`."""
        with self._explained(f"{name} cannot be read from"), self._noticed(f"reading {name} from"):
            if self._local is None:
                self._remote.get_file(self._path(name), str(path))
            else:
                shutil.copyfile(self._local / name, path)

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        with (
            self._explained(f"{name} cannot be read from"),
            self._noticed(f"reading {name} from"),
            contextlib.suppress(*_MISSING),
        ):
            if self._local is not None:
                return (self._local / name).read_bytes()
            found: bytes = self._remote.cat_file(self._path(name))
            return found
        return None

    def sha256(self, name: str) -> str | None:
        """SHA-256 (hex) of the file; None where there is none."""
        with (
            self._explained(f"{name} cannot be read from"),
            contextlib.suppress(*_MISSING),
            self._open(name) as file,
        ):
            return digest_file(file)
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        """The file's lines with their ends; no lines where there is no such file."""
        with (
            self._explained(f"{name} cannot be read from"),
            contextlib.suppress(*_MISSING),
            self._open(name) as file,
        ):
            yield from file

    def names(self) -> list[str]:
        """Names of all files below, sorted, without links; none where the folder does not exist."""
        if self._local is not None:
            files = (Path(folder, name) for folder, _, names in os.walk(self._local) for name in names)
            own = (file for file in files if file.is_file() and not file.is_symlink())
            return sorted(file.relative_to(self._local).as_posix() for file in own)
        return sorted(self._found())

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below, by its name."""
        if self._local is not None:
            return {name: (self._local / name).stat().st_size for name in self.names()}
        return {name: int(info["size"] or 0) for name, info in sorted(self._found().items())}

    def remove(self, names: list[str]) -> None:
        """Delete those of these files that exist, and local folders that become empty; links are not followed."""
        with self._explained("no file can be removed from"), self._noticed("removing files from"):
            for name in names:
                if self._local is None:
                    with contextlib.suppress(FileNotFoundError):
                        self._remote.rm_file(self._path(name))
                else:
                    remove_written(self._local, [name])

    def _found(self) -> dict[str, dict[str, Any]]:
        with self._explained("the files cannot be listed of"), self._noticed("listing the files of"):
            self._remote.invalidate_cache()
            if not self._remote.exists(self._root):
                return {}
            found = self._remote.find(self._root, detail=True)
            return {path.removeprefix(self._root).lstrip("/"): info for path, info in found.items()}
        raise AssertionError

    def _open(self, name: str) -> Any:
        if self._local is not None:
            return (self._local / name).open("rb")
        self._remote.invalidate_cache()  # the present file, not one that fsspec has listed before
        return self._remote.open(self._path(name), "rb")

    def _path(self, name: str, for_writing: bool = False) -> str:
        path = f"{self._root}/{name}"
        if for_writing and self._has_folders:
            self._remote.makedirs(path.rpartition("/")[0], exist_ok=True)
        return path

    @contextlib.contextmanager
    def _noticed(self, doing: str) -> Iterator[None]:
        """A context that says so, once, if it takes long and the files are on a store."""
        if self._local is not None:
            yield
            return
        line = f"{doing} {self.url!r} has taken {NOTICE_SECONDS:g} s and goes on"
        notice = threading.Timer(NOTICE_SECONDS, log.warning, [line])
        notice.daemon = True
        notice.start()
        try:
            yield
        finally:
            notice.cancel()

    @contextlib.contextmanager
    def _explained(self, what: str, *also: type[OSError]) -> Iterator[None]:
        """A context in which errors of the file system become `StorageError`; a missing file only where it is in
        `also`."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # each file system has errors of its own
            is_other = isinstance(error, _MISSING) and not isinstance(error, also)
            if is_other or (self._local is not None and not isinstance(error, OSError)):
                raise
            raise StorageError(f"{what} {self.url!r}: {explained(error, self.url)}") from error


@contextlib.contextmanager
def filled_at_end(output: str) -> Iterator[Path]:
    """A local folder to write to: `output` itself, or for a URL a temporary one, whose files are stored there at the
    end. Raises `StorageError`."""
    if not is_url(output):
        yield Path(output)
        return
    folder = Folder(output)
    with tempfile.TemporaryDirectory(prefix="sllm-output-") as made:
        yield Path(made)
        put_model(Path(made), folder)


def put_model(made: Path, folder: Folder) -> None:
    """Copy the files of a model, or of another output, to a folder. `config.json` comes last, and an older one is
    removed first: a folder without it is no model."""
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    folder.remove([MODEL_IS_WHOLE])
    for name in sorted(names, key=lambda name: name == MODEL_IS_WHOLE):
        folder.put(name, made / name)
