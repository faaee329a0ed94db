"""From the inputs of a configuration to the files with documents, in a fixed order."""

import collections
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.config import DataConfig
from pipeline.config.paths import is_url
from pipeline.corpus.files.excluded import beside_data, exclude, exclude_metadata
from pipeline.corpus.files.listing import FoundFile, Listing, list_local
from pipeline.corpus.files.url_listing import list_url
from pipeline.corpus.format_detection import DetectedFormat, detect, detect_by_name
from pipeline.corpus.formats.table import FORMATS
from pipeline.corpus.formats.text import with_text_cuts
from pipeline.corpus.opening.streams import is_web
from pipeline.corpus.source import Source
from pipeline.errors import CorpusError
from pipeline.printable import printable
from pipeline.redaction import redacted

PYTHON_DOCS = "python-docs:"
"""The input for `python_docs`. `find_sources` does not know it: the text is written to a file before."""
NAMES_SHOWN = 10
FILES_AT_ONCE = 16
"""Files whose start is read concurrently, since reading mostly waits for another machine."""


def _to_stderr(line: str) -> None:
    print(printable(line), file=sys.stderr)


def find_sources(data: DataConfig, say: Callable[[str], object] = _to_stderr) -> list[Source]:
    """The files of `data.inputs` in their order, those of a folder by name, then those of `data.dev_inputs`.

    `say` is called with a line for each input with excluded files, and for each file whose content differs from its
    name. Raises `CorpusError` for an input that is missing, of a format that is not read, or of another format than its
    name.
    """
    if not data.inputs and not data.dev_inputs:
        raise CorpusError("there is nothing to read: name files or folders in data.inputs")
    found: list[Source] = []
    paths: dict[str, str] = {}  # by the file to which each path leads
    for inputs, is_dev in ((data.inputs, False), (data.dev_inputs, True)):
        for given in inputs:
            for source, real in _sources_of(given, data, say):
                if real in paths:
                    other = f", as {paths[real]!r}," if paths[real] != source.path else ""
                    raise CorpusError(
                        f"input {source.path!r} is named twice{other} in data.inputs or data.dev_inputs; name it once"
                    )
                paths[real] = source.path
                found.append(replace(source, is_dev=is_dev))
    names = collections.Counter(source.name for source in found)
    return [
        replace(source, shown_name=source.name if names[source.name] == 1 else redacted(source.path))
        for source in with_text_cuts(found, data)
    ]


def _sources_of(given: str, data: DataConfig, say: Callable[[str], object]) -> list[tuple[Source, str]]:
    """The sources of one input, each with a key that is equal for paths of the same file."""
    for format_ in FORMATS.values():
        if format_.input_prefix is not None and given.startswith(format_.input_prefix):
            return [(format_.source(given), given)]
    listing = _listed(given)
    if not listing.is_file:
        exclude_metadata(listing)
        exclude(listing, {file.name: "empty file" for file in listing.files if file.size == 0})
    detected = _detected(listing, data)
    if not listing.is_file:
        is_data = {
            name: isinstance(one, DetectedFormat) and not one.format.is_one_document
            for name, one in detected.items()
        }
        exclude(listing, beside_data(listing.files, is_data))
    _say_what_is_left_out(given, listing, say)
    refused = [error for file in listing.files if isinstance(error := detected[file.name], CorpusError)]
    if refused:
        more = f" (and {len(refused) - 1} more files of {given!r} cannot be read)" if len(refused) > 1 else ""
        raise CorpusError(f"{refused[0]}{more}")
    if not listing.files:
        raise CorpusError(f"input {given!r} holds nothing to read: {_left_out(listing)}")
    files = [(file, one) for file in listing.files if isinstance(one := detected[file.name], DetectedFormat)]
    _say_where_formats_differ(given, files, say)
    for file, one in files:
        if one.note:
            say(f"note: input {redacted(file.path)!r} {one.note}")
        if not one.layout.has_rows:
            say(
                f"note: input {redacted(file.path)!r} holds only the header line of its columns and no rows; make it "
                f"again with its rows, or take it out of data.inputs"
            )
    return [(_source(file, one), file.real) for file, one in files]


def _listed(given: str) -> Listing:
    """The files of one input, by name, without hidden ones.

    Raises `CorpusError` where there are none, for a broken link, and where they cannot be listed.
    """
    try:
        if given.startswith(("file://", "local://")):
            given = given.partition("://")[2]
        if is_web(given.lower()):
            scheme, colon, rest = given.partition(":")
            # fsspec takes `::` for the end of one URL and the start of another, in a query too.
            given = scheme.lower() + colon + rest.replace("::", "%3A%3A")
        listing = list_url(given) if is_url(given) else list_local(given)
    except CorpusError:
        raise
    except FileNotFoundError as error:
        raise CorpusError(f"input {given!r}: there is no such file") from error
    except Exception as error:  # of file systems, web clients, object stores
        raise CorpusError(f"input {given!r} cannot be listed: {error}") from error
    listing.files = [
        file for file in listing.files if not any(part.startswith(".") for part in file.name.split("/"))
    ]
    listing.files.sort(key=lambda file: file.path)
    if not listing.files and not listing.left_out:
        raise CorpusError(f"input {given!r}: there is no such file, and no file in a folder of that name")
    return listing


def _source(file: FoundFile, detected: DetectedFormat) -> Source:
    return Source(
        file.path,
        file.name,
        detected.format.name,
        detected.compression,
        dialect=detected.layout.dialect,
        has_rows=detected.layout.has_rows,
    )


def _detected(listing: Listing, data: DataConfig) -> dict[str, DetectedFormat | CorpusError]:
    """The format of each file, by name, or the error why it is not read; files of a folder without documents are
    excluded."""
    detected: dict[str, DetectedFormat | CorpusError] = {}
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        found = list(pool.map(lambda file: _detect(file, data), listing.files))
    for file, one in zip(list(listing.files), found, strict=True):
        if listing.is_file:
            detected[file.name] = one or detect_by_name(file.path, file.name, data)
        elif one is None:
            exclude(listing, {file.name: "empty file"})
        elif isinstance(one, DetectedFormat) and not one.layout.has_rows:
            exclude(listing, {file.name: f"{one.format.title} file of only a header line"})
        else:
            detected[file.name] = one
    return detected


def _detect(file: FoundFile, data: DataConfig) -> DetectedFormat | CorpusError | None:
    try:
        return detect(file.path, file.name, data)
    except CorpusError as error:
        return error


def _say_where_formats_differ(
    given: str, files: Sequence[tuple[FoundFile, DetectedFormat]], say: Callable[[str], object]
) -> None:
    """Print a note where a folder holds several formats: a page or a log beside data files is rarely meant as a
    document."""
    by_format: dict[str, list[str]] = {}
    for file, one in files:
        by_format.setdefault(one.format.title, []).append(file.name)
    if len(by_format) > 1:
        counts = "; ".join(
            f"{len(names)} x {format_} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for format_, names in sorted(by_format.items())
        )
        say(
            f"note: input {redacted(given)!r} holds files of several formats, all of which are read: {counts}"
        )


def _say_what_is_left_out(given: str, listing: Listing, say: Callable[[str], object]) -> None:
    if listing.left_out and listing.files:
        say(f"note: left out of input {redacted(given)!r}: {_left_out(listing)}")


def _left_out(listing: Listing) -> str:
    parts = []
    for reason, names in sorted(listing.left_out.items()):
        more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        parts.append(f"{len(names)} x {reason} ({', '.join(names[:NAMES_SHOWN])}{more})")
    return "; ".join(parts)
