"""The files of an input at a URL: one file, those of a folder or bucket, or those of a glob."""

import html
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import fsspec

from pipeline.corpus.files.listing import FoundFile, Listing, matches_glob
from pipeline.corpus.opening.streams import is_web
from pipeline.errors import CorpusError


def list_url(given: str) -> Listing:
    """The files of a URL: one file, those below it, or those of a glob. Raises `CorpusError`."""
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
                continue  # the object that stands for the folder itself
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
    if not any(one.get("type", "file") == "file" and path[-1:] != "/" for path, one in fitting.items()):
        # Only folders match: their files are meant, as in a local listing.
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
        files = [
            file for file in _crawl(file_system, before) if matches_glob(tuple(file.name.split("/")), pattern)
        ]
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
    """The files to which the index pages at and below a folder's URL link."""
    root = _without_query(root).rstrip("/") + "/"
    todo, seen = [root], {root}
    while todo:
        folder = todo.pop()
        for entry in file_system.ls(folder, detail=True):
            link = html.unescape(entry["name"]).replace("/./", "/").partition("#")[0]
            url = _without_query(link)  # index pages link to themselves with a query that sorts
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
    """The name of a file at a URL, as the server has it."""
    try:
        return "/".join(unquote(part, errors="strict") for part in name.split("/"))
    except UnicodeDecodeError:
        return name
