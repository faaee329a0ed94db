"""The files of a local input: one file, those of a folder, or those of a glob."""

import fnmatch
import functools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpus.file_names import path_on_disk, readable_path
from pipeline.errors import CorpusError


@dataclass(frozen=True)
class FoundFile:
    """A file that an input names."""

    path: str
    """Readable local path, or URL."""
    name: str
    """Relative to the input, with `/` between parts."""
    size: int | None
    """Stored bytes; None where the size is not known before reading."""
    real: str
    """Equal for two paths of one file."""


@dataclass
class Listing:
    """The files that an input names."""

    files: list[FoundFile]
    is_file: bool
    """Whether the input names this file itself, so that it is never excluded."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names of excluded files, by reason."""


def list_local(given: str) -> Listing:
    """The files that a path of this machine, or a glob, names. Raises `CorpusError` for what cannot be read."""
    # Absolute, so that it is the same in every process.
    literal = Path(given).expanduser().absolute()
    path = literal if os.path.lexists(literal) else path_on_disk(given).expanduser().absolute()
    if path.is_symlink() and not path.exists():
        raise _broken_link(path)
    if path.is_file():
        name = readable_path(path.name)
        return Listing([FoundFile(readable_path(path), name, path.stat().st_size, str(path.resolve()))], True)
    if path.is_dir():
        return _Walk(path, None).listing()
    if path.exists():
        raise CorpusError(f"input {given!r} is neither a file nor a folder; write what it gives into a file")
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), None)
    if fixed is None or not Path(*parts[:fixed]).is_dir():
        return Listing([], False)
    return _Walk(Path(*parts[:fixed]), parts[fixed:]).listing()


def _broken_link(path: Path) -> CorpusError:
    target = readable_path(str(path.readlink()))
    return CorpusError(
        f"input {readable_path(path)!r} is a link to {target!r}, which is missing; bring that back, or remove the link"
    )


class _Walk:
    """The files below a folder, or those that match a pattern. Linked folders are entered, but none twice."""

    def __init__(self, root: Path, pattern: tuple[str, ...] | None) -> None:
        self._root = root
        self._pattern = pattern
        self._entered: set[tuple[int, ...]] = set()
        self._links: list[tuple[Path, tuple[str, ...]]] = []
        self._files: dict[str, FoundFile] = {}
        self._linked_files: list[tuple[Path, tuple[str, ...]]] = []
        self._folders: list[Path] = []
        self._left_out: dict[str, list[str]] = {}

    def listing(self) -> Listing:
        self._walk(self._root, ())
        # First the files of the folder itself, then its links, in the order of their names.
        while self._links:
            self._links.sort(reverse=True)
            self._walk(*self._links.pop())
        for path, parts in sorted(self._linked_files):
            self._add(path, parts)
        if not self._files and not self._left_out and self._folders:
            for folder in sorted(self._folders):
                self._pattern = None
                self._walk(folder, folder.relative_to(self._root).parts)
                self._folders = []
        elif self._folders:
            self._left_out["folder that the glob fits"] = [_name(p.parts[-1:]) for p in sorted(self._folders)]
        return Listing(list(self._files.values()), False, self._left_out)

    def _walk(self, folder: Path, parts: tuple[str, ...]) -> None:
        todo = [(folder, parts)]
        while todo:
            folder, parts = todo.pop()
            status = folder.stat()
            key: tuple[int, ...] = (status.st_dev, status.st_ino)
            if self._pattern is not None and "**" not in self._pattern:
                key = (*key, len(parts))
            if key in self._entered:
                self._leave_out("link to a folder that is read already", parts)
                continue
            self._entered.add(key)
            for entry in sorted(folder.iterdir()):
                if not entry.name.startswith(".") or self._pattern is not None:
                    todo += self._enter(entry, (*parts, entry.name))

    def _enter(self, entry: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Note a file or a link; yield a folder to walk."""
        fits = self._pattern is None or matches_glob(parts, self._pattern)
        if any(part.startswith(".") for part in parts):
            return
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            if fits and entry.is_symlink():
                raise _broken_link(entry) from error
            if fits:
                raise
            return
        is_link = entry.is_symlink()
        if stat.S_ISDIR(mode):
            if self._pattern is None or matches_glob(parts, self._pattern, as_prefix=True):
                if is_link:
                    self._links.append((entry, parts))
                else:
                    yield entry, parts
            if fits and self._pattern is not None and self._pattern[-1] != "**":
                self._folders.append(entry)
        elif not fits:
            return
        elif not stat.S_ISREG(mode):
            self._leave_out("neither file nor folder", parts)
        elif is_link:
            self._linked_files.append((entry, parts))
        else:
            self._add(entry, parts)

    def _add(self, path: Path, parts: tuple[str, ...]) -> None:
        real = os.path.realpath(path)
        if real in self._files:
            self._leave_out("link to a file that is read already", parts)
        else:
            self._files[real] = FoundFile(readable_path(path), _name(parts), path.stat().st_size, real)

    def _leave_out(self, reason: str, parts: tuple[str, ...]) -> None:
        self._left_out.setdefault(reason, []).append(_name(parts))


def _name(parts: tuple[str, ...]) -> str:
    return readable_path("/".join(parts))


@functools.lru_cache(maxsize=2**16)
def matches_glob(parts: tuple[str, ...], pattern: tuple[str, ...], as_prefix: bool = False) -> bool:
    """Whether a name matches a glob, part by part; `as_prefix`: whether a name below it may match."""
    if not pattern:
        return not parts
    if not parts:
        return as_prefix or all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return matches_glob(parts, pattern[1:], as_prefix) or matches_glob(parts[1:], pattern, as_prefix)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and matches_glob(parts[1:], pattern[1:], as_prefix)
