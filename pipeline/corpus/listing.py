"""The files that an input names: one file, those of a folder, or those of a glob; on this machine or at a URL."""

import fnmatch
import functools
import html
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec

from pipeline.corpus.file_names import local_path, readable_path
from pipeline.corpus.streams import is_url, is_web
from pipeline.errors import CorpusError


@dataclass(frozen=True)
class FoundFile:
    """A file that an input names."""

    path: str
    """Readable local path, or URL."""
    name: str
    """Relative to the input, with `/` between parts."""
    size: int | None
    """Bytes as stored; None where the place does not tell."""
    real: str
    """Equal for two paths of one file."""


@dataclass
class Listing:
    """What an input names."""

    files: list[FoundFile]
    is_file: bool
    """The input names this very file, which is then read whatever it is."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names of what is not read, by reason."""


def list_input(given: str) -> Listing:
    """The files of one input, by name; hidden ones are left out.

    Raises `CorpusError` where there are none, for a link to nothing, and for what cannot be listed.
    """
    try:
        if given.startswith(("file://", "local://")):
            given = given.partition("://")[2]
        if is_web(given.lower()):
            scheme, colon, rest = given.partition(":")
            # fsspec takes `::` for the end of one URL and the start of another, in a query too.
            given = scheme.lower() + colon + rest.replace("::", "%3A%3A")
        listing = _list_url(given) if is_url(given) else _list_local(given)
    except CorpusError:
        raise
    except FileNotFoundError as error:
        raise CorpusError(f"input {given!r}: there is no such file") from error
    except Exception as error:  # of whatever the place is: file systems, web clients, object stores
        raise CorpusError(f"input {given!r} cannot be listed: {error}") from error
    listing.files = [
        file for file in listing.files if not any(part.startswith(".") for part in file.name.split("/"))
    ]
    listing.files.sort(key=lambda file: file.path)
    if not listing.files and not listing.left_out:
        raise CorpusError(f"input {given!r}: there is no such file, and no file in a folder of that name")
    return listing


def _list_local(given: str) -> Listing:
    # Absolute, so that it means the same in every process.
    literal = Path(given).expanduser().absolute()
    path = literal if os.path.lexists(literal) else local_path(given).expanduser().absolute()
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
    """The files below a folder, or those that fit a pattern. Linked folders are entered, but none twice."""

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
        # What lies there itself keeps its name; then come links, in the order of their names.
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
        fits = self._pattern is None or _fits(parts, self._pattern)
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
            if self._pattern is None or _fits(parts, self._pattern, as_prefix=True):
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
def _fits(parts: tuple[str, ...], pattern: tuple[str, ...], as_prefix: bool = False) -> bool:
    """Whether a name fits a glob, part by part; `as_prefix`: whether something below it may."""
    if not pattern:
        return not parts
    if not parts:
        return as_prefix or all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(parts, pattern[1:], as_prefix) or _fits(parts[1:], pattern, as_prefix)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:], as_prefix)


def _list_url(given: str) -> Listing:
    if is_web(given):
        return _list_web(given)
    file_system, root = fsspec.core.url_to_fs(given)
    chain = given.partition("::")[2]

    def found(paths: dict[str, dict[str, object]], base: str) -> Listing:
        files = []
        left_out: dict[str, list[str]] = {}
        for path, info in paths.items():
            name = path.lstrip("/").removeprefix(base.lstrip("/")).lstrip("/")
            if not name:
                continue  # the marker of the folder itself
            if name.endswith("/"):
                left_out.setdefault("folder marker", []).append(name)
            elif info.get("type", "file") == "file":
                size = info.get("size")
                url = file_system.unstrip_protocol(path) + (f"::{chain}" if chain else "")
                files.append(FoundFile(url, name, size if isinstance(size, int) else None, url))
            elif info.get("type") == "directory" and "**" not in root:
                left_out.setdefault("folder that the glob fits", []).append(name)
        return Listing(files, False, left_out)

    if file_system.isdir(root):
        base = root.rstrip("/")
        return found(file_system.find(base, detail=True), base)
    plain = root.partition("?")[0] if "*" not in root else root
    if "versionid=" in root.removeprefix(plain).lower():
        raise CorpusError(
            f"input {given!r}: the newest version alone is read; take the query off, or fetch the file"
        )
    for key in dict.fromkeys((root, plain)):
        if file_system.isfile(key):
            name = plain.rstrip("/").rpartition("/")[2]
            size = file_system.info(key).get("size")
            url = (
                given if key == root else file_system.unstrip_protocol(key) + (f"::{chain}" if chain else "")
            )
            return Listing([FoundFile(url, name, size, url)], True)
    if not any(character in root for character in "*?["):
        return Listing([], False)
    parts = root.split("/")
    fixed = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
    base = "/".join(parts[:fixed])
    fitting = file_system.glob(root, detail=True)
    if not any(
        info.get("type", "file") == "file" and not path.endswith("/") for path, info in fitting.items()
    ):
        # Folders alone: their files are meant, as in a listing of this machine.
        fitting = {
            path: info
            for folder in sorted(fitting)
            for path, info in file_system.find(folder.rstrip("/"), detail=True).items()
        }
    return found(fitting, base)


def _list_web(given: str) -> Listing:
    file_system, _ = fsspec.core.url_to_fs(given)
    parts = urlsplit(given)
    if "*" in parts.path:
        before = given.partition("*")[0].rpartition("/")[0] + "/"
        pattern = tuple(parts.path.removeprefix(urlsplit(before).path).split("/"))
        files = [file for file in _crawl(file_system, before) if _fits(tuple(file.name.split("/")), pattern)]
        return Listing(files, False)
    if parts.path.endswith("/") or not parts.path:
        return Listing(list(_crawl(file_system, given)), False)
    info = file_system.info(given)
    last = parts.path.rpartition("/")[2]
    if str(info.get("mimetype", "")).startswith("text/html") and "." not in last:
        files = list(_crawl(file_system, f"{_without_query(given)}/"))
        if files:
            return Listing(files, False)
    size = info.get("size")
    return Listing([FoundFile(given, _unquoted(last), size if isinstance(size, int) else None, given)], True)


def _crawl(file_system: fsspec.AbstractFileSystem, root: str) -> Iterator[FoundFile]:
    """The files that the index pages at and below a folder's URL link to."""
    root = _without_query(root).rstrip("/") + "/"
    todo, seen = [root], {root}
    while todo:
        folder = todo.pop()
        for entry in file_system.ls(folder, detail=True):
            link = html.unescape(entry["name"]).replace("/./", "/").partition("#")[0]
            url = _without_query(link)  # pages link to themselves with a query, to sort
            if url in seen or not url.startswith(folder) or ":" in url[len(root) :].split("/")[0]:
                continue
            seen.add(url)
            if url.endswith("/"):
                todo.append(url)
            else:
                yield FoundFile(link, _unquoted(url.removeprefix(root)), None, link)


def _without_query(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]


def _unquoted(name: str) -> str:
    """A URL's name as the file is called where it lies."""
    try:
        return "/".join(unquote(part, errors="strict") for part in name.split("/"))
    except UnicodeDecodeError:
        return name
