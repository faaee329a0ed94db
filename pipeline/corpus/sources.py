"""From the inputs of a configuration to the files that hold documents, in a fixed order."""

import collections
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.config import DataConfig
from pipeline.corpus.format_detection import FORMAT_NAMES, Format, Reading, detect, named_reading
from pipeline.corpus.listing import FoundFile, Listing, list_input
from pipeline.corpus.markers import beside_data, leave_out_markers, take_out
from pipeline.corpus.streams import Compression
from pipeline.errors import CorpusError
from pipeline.redaction import redacted

DATASETS_PREFIX = "datasets:"
PYTHON_DOCS = "python-docs:"
NAMES_SHOWN = 10
FILES_AT_ONCE = 16
"""Files whose start is read at once: most of the time it is a wait for another machine."""


@dataclass(frozen=True)
class Source:
    """One file (or data set) of the corpus."""

    path: str
    """Local path (`file_names.readable_path`) or URL; for `datasets`, `NAME[:SPLIT]`."""
    name: str
    """Relative to the input it was found through, so without the place it lies at; part of document ids and digests.
    Files of several inputs may have the same."""
    format: Format
    compression: Compression = ""
    is_dev: bool = False
    """All its documents go to the dev split."""
    delimiter: str = ","
    """Between the cells of CSV."""
    has_rows: bool = True
    """Not so for CSV of only a header line."""
    shown_name: str = ""
    """For people: the name, or the path where another file has the same name."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def find_sources(data: DataConfig, say: Callable[[str], object] = _to_stderr) -> list[Source]:
    """The files of `data.inputs` in their order, those of a folder by name, then those of `data.dev_inputs`.

    `say` is told, a line an input, what of a folder is left out, and which file is not what its name says.
    Raises `CorpusError` for an input that is missing, of a format that is not read, or not what it is named.
    """
    if not data.inputs and not data.dev_inputs:
        raise CorpusError("there is nothing to read: name files or folders in data.inputs")
    found: list[Source] = []
    places: dict[str, str] = {}
    for inputs, is_dev in ((data.inputs, False), (data.dev_inputs, True)):
        for given in inputs:
            for source, real in _sources_of(given, data, say):
                if real in places:
                    other = f", as {places[real]!r}," if places[real] != source.path else ""
                    raise CorpusError(
                        f"input {source.path!r} is named twice{other} in data.inputs or data.dev_inputs; name it once"
                    )
                places[real] = source.path
                found.append(replace(source, is_dev=is_dev))
    names = collections.Counter(source.name for source in found)
    return [
        replace(source, shown_name=source.name if names[source.name] == 1 else redacted(source.path))
        for source in found
    ]


def _sources_of(given: str, data: DataConfig, say: Callable[[str], object]) -> list[tuple[Source, str]]:
    """With what tells that two are one file."""
    if given.startswith(DATASETS_PREFIX):
        path = given.removeprefix(DATASETS_PREFIX)
        # A folder of this machine goes by its last name, a data set of a hub by its whole one.
        is_local = Path(path.partition(":")[0]).expanduser().is_dir()
        name = DATASETS_PREFIX + (PurePosixPath(path).name if is_local else path)
        return [(Source(path=path, name=name, format="datasets"), given)]
    listing = list_input(given)
    if not listing.is_file:
        leave_out_markers(listing)
        take_out(listing, {file.name: "empty file" for file in listing.files if file.size == 0})
    readings: dict[str, Reading | CorpusError] = {}
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        for file, reading in zip(
            listing.files, pool.map(lambda one: _reading(one, data), listing.files), strict=True
        ):
            if isinstance(reading, Reading) and not reading.has_rows and not listing.is_file:
                take_out(listing, {file.name: "CSV file of only a header line"})
            elif reading is not None:
                readings[file.name] = reading
            elif listing.is_file:
                readings[file.name] = named_reading(file.name, data)
            else:
                take_out(listing, {file.name: "empty file"})
    if not listing.is_file:
        is_data = {name: isinstance(one, Reading) and one.format != "text" for name, one in readings.items()}
        take_out(listing, beside_data(listing.files, is_data))
    _say_what_is_left_out(given, listing, say)
    refused = [error for file in listing.files if isinstance(error := readings[file.name], CorpusError)]
    if refused:
        more = f" (and {len(refused) - 1} more files of {given!r} cannot be read)" if len(refused) > 1 else ""
        raise CorpusError(f"{refused[0]}{more}")
    if not listing.files:
        raise CorpusError(f"input {given!r} holds nothing to read: {_left_out(listing)}")
    _say_where_formats_differ(given, listing, readings, say)
    sources = []
    for file in listing.files:
        reading = readings[file.name]
        assert isinstance(reading, Reading)
        if reading.note:
            say(f"note: input {redacted(file.path)!r} {reading.note}")
        if not reading.has_rows:
            say(
                f"note: input {redacted(file.path)!r} holds only the header line of its columns and no rows; make it "
                f"again with its rows, or take it out of data.inputs"
            )
        source = Source(
            file.path,
            file.name,
            reading.format,
            reading.compression,
            delimiter=reading.delimiter,
            has_rows=reading.has_rows,
        )
        sources.append((source, file.real))
    return sources


def _reading(file: FoundFile, data: DataConfig) -> Reading | CorpusError | None:
    try:
        return detect(file.path, file.name, data)
    except CorpusError as error:
        return error


def _say_where_formats_differ(
    given: str,
    listing: Listing,
    readings: dict[str, Reading | CorpusError],
    say: Callable[[str], object],
) -> None:
    """A page or a log among data files is a document too: a folder rarely means that."""
    by_format: dict[str, list[str]] = {}
    for file in listing.files:
        reading = readings[file.name]
        assert isinstance(reading, Reading)
        by_format.setdefault(FORMAT_NAMES[reading.format], []).append(file.name)
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
