"""One file that a command writes, such as a page or a plot."""

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.config.paths import is_url
from pipeline.corpus.known_content import COMPRESSION_SUFFIXES
from pipeline.errors import ConfigError


def output_file(output: str | Path) -> Path:
    """Where to write one file. Raises `ConfigError` for a URL, a folder, and what is no regular file."""
    path = Path(output)
    if is_url(str(output)):
        raise ConfigError(f"cannot write {output}: it is a URL; name a file of this machine")
    if path.is_dir() or not path.name:
        raise ConfigError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"cannot write {path}: it is no regular file, and would be replaced by one; name another file"
        )
    return path


@contextlib.contextmanager
def written_aside(output: str | Path, source: str | Path) -> Iterator[IO[bytes]]:
    """A file that takes the name `output` when all is written, and leaves nothing behind after an error.

    Raises `ConfigError` where it would replace `source`, the input, and where it cannot be written.
    """
    path = output_file(output)
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ConfigError(f"{path} is the input, and would be replaced: name another file")
    compression = COMPRESSION_SUFFIXES.get(path.suffix.removeprefix(".").lower(), "")
    if compression not in ("", "gzip"):
        raise ConfigError(
            f"cannot write {path}: {compression}, as its name says, is not written; name it without, or with .gz"
        )
    aside = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with cast("IO[bytes]", gzip.open(aside, "wb") if compression else aside.open("wb")) as file:
            yield file
        aside.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
