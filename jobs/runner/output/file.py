"""One file that a command writes, such as a page or a plot."""

import contextlib
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from infra.storage import Folder
from pipeline.config.paths import is_url
from pipeline.corpus.opening.compression import COMPRESSION_SUFFIXES
from pipeline.errors import ConfigError
from pipeline.output_files import written_aside


@contextlib.contextmanager
def opened_output(output: str | Path, source: str | Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write to (gzip where `output` ends in `.gz`), which appears at the path or URL `output` whole or not at
    all.

    Raises `ConfigError` where it would replace `source`, the input; for a folder, and anything else that is not a
    regular file; and where it cannot be written. Raises `StorageError` where a URL cannot be written.
    """
    name = str(output)
    path = Path(output)
    if not is_url(name):
        _check_file(path)
    is_source = path.exists() and Path(str(source)).exists() and path.samefile(str(source))
    if is_source or name == source:
        raise ConfigError(f"{name} is the input, and would be replaced: name another file")
    compression = COMPRESSION_SUFFIXES.get(path.suffix.removeprefix(".").lower(), "")
    if compression not in ("", "gzip"):
        raise ConfigError(
            f"cannot write {name}: {compression}, as its name says, is not written; name it without, or with .gz"
        )
    try:
        with (
            _stored_at_end(name) as aside,
            cast("IO[bytes]", gzip.open(aside, "wb") if compression else aside.open("wb")) as file,
        ):
            yield file
    except OSError as error:
        raise ConfigError(f"cannot write {name}: {error.strerror or error}") from error


@contextlib.contextmanager
def _stored_at_end(output: str) -> Iterator[Path]:
    if not is_url(output):
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        with written_aside(Path(output)) as aside:
            yield aside
        return
    parent, _, name = output.rpartition("/")
    folder = Folder(parent)
    folder.check_bucket()
    if not name:
        raise ConfigError(f"cannot write {output}: it is a folder; name a file in it")
    with tempfile.TemporaryDirectory(prefix="sllm-output-") as made:
        yield Path(made, name)
        folder.put(name, Path(made, name))


def _check_file(path: Path) -> None:
    if path.is_dir() or not path.name:
        raise ConfigError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"cannot write {path}: it is no regular file, and would be replaced by one; name another file"
        )
