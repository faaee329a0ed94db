"""One file that a command writes, such as a page or a plot."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.config.paths import is_url
from pipeline.corpus.compression import COMPRESSION_SUFFIXES
from pipeline.errors import ConfigError
from pipeline.output_files import written_aside


def output_file(output: str | Path) -> Path:
    """The path of an output file. Raises `ConfigError` for a URL, a folder, and anything else that is not a regular
    file."""
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
def opened_output(output: str | Path, source: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to (gzip where `output` ends in `.gz`), which appears at `output` whole or not at all.

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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            written_aside(path) as aside,
            cast("IO[bytes]", gzip.open(aside, "wb") if compression else aside.open("wb")) as file,
        ):
            yield file
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
