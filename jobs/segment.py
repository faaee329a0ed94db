"""`sllm segment`: the ends of sentences of documents in JSONL, by any segmenter."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import segmenters
from jobs.runner.completion import complete_segmenter
from jobs.runner.console import say
from jobs.runner.output.file import opened_output
from jobs.runner.progress import WorkProgress
from pipeline.config import DataConfig
from pipeline.config.paths import PATH, resolved_options
from pipeline.corpus.document_lines import read_documents
from pipeline.corpus.opening.streams import stored_bytes
from pipeline.errors import ConfigError, CorpusError
from pipeline.printable import printable
from pipeline.unique_keys import read_value
from segmenters import DEFAULT_SEGMENTER, Segmenter, SegmenterError
from segmenters.batching import BATCH_CHARACTERS

MAX_REJECTED_FRACTION: float = DataConfig().max_rejected_fraction
"""Largest share of lines of a file that are not documents, as in `sllm prepare`."""


@dataclasses.dataclass(frozen=True)
class Segmented:
    """Counts of what was segmented, and of what was rejected."""

    documents: int
    characters: int
    sentences: int
    rejected: int = 0
    """Lines that are not documents and are left out."""
    first_rejected: str | None = None
    """File, line and reason of the first of them."""


def command(
    source: Annotated[
        str | None, typer.Argument(metavar="IN", help="JSONL file with `id` and `text`."), PATH
    ] = None,
    segmenter: Annotated[
        str,
        typer.Option("--segmenter", metavar="NAME", help="See --list.", autocompletion=complete_segmenter),
    ] = DEFAULT_SEGMENTER,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the segmenter.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="OUT", help="JSONL file with `id` and `ends`."), PATH
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the segmenters and stop.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="NAME,NAME,...",
            help="Show the sentences of IN side by side.",
            autocompletion=complete_segmenter,
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="PAGE", help="With --compare: write them as an HTML page."),
        PATH,
    ] = None,
) -> None:
    """Arguments of `sllm segment`. Raises `BadParameter` where one lacks that another needs."""
    if list_all:
        list_segmenters()
    elif compare is not None:
        if source is None:
            raise typer.BadParameter("--compare needs IN")
        compare_segmenters(compare.split(","), source, html)
    elif source is None or output is None:
        raise typer.BadParameter("needs IN and --output OUT, or --list")
    else:
        made = segment_file(segmenter, option or [], source, output)
        say(
            f"{made.documents:,} documents, {made.characters:,} characters, {made.sentences:,} sentences -> {output}"
        )
        if made.rejected:
            say(f"{made.rejected:,} lines rejected, which {output} lacks; the first: {made.first_rejected}")


def compare_segmenters(names: Sequence[str], source: str, html: str | None = None) -> None:
    """Print the sentences of a file under several segmenters side by side, or write them to the page `html`.

    Raises `SegmenterError` for an unknown segmenter, `CorpusError` for a file that cannot be read.
    """
    from jobs.reports.segmenter_differences import compare, show

    comparison = compare(names, source)
    if html is None:
        show(comparison)
        return
    from jobs.pages.segmenters import segmenters_page

    page = segmenters_page(comparison, source)
    with opened_output(html, source) as file:
        file.write(page)
    say(f"{html}: {len(page):,} bytes")


def build(name: str, options: Iterable[str] = ()) -> Segmenter:
    """The segmenter of this name, with options as `key=YAML value`; `ConfigError` where there is none."""
    parsed: dict[str, Any] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise ConfigError(f"segmenter option {option!r} must look like key=value")
        if key in parsed:
            raise ConfigError(f"segmenter option {key!r} is given twice: give it once")
        parsed[key] = read_value(value, f"segmenter option {option!r}")
    try:
        return segmenters.load(name, **resolved_options(parsed))
    except SegmenterError as error:
        raise ConfigError(str(error)) from error


def segment_file(
    segmenter: str,
    options: Iterable[str],
    source: str | Path,
    output: str | Path,
    text_field: str = "text",
    id_field: str = "id",
) -> Segmented:
    """Write `{"id", "ends"}` for each document `{"id", "text", ...}` of `source`, in its order.

    `source` may be compressed; an output whose name ends in `.gz` is gzip. The output appears whole or not at all. A
    line that is not a document is left out and counted. Raises `ConfigError` for an unknown segmenter or option and for
    an output that cannot be written, `CorpusError` for a file that cannot be read, or where more lines than
    `MAX_REJECTED_FRACTION` are no documents.
    """
    chosen = build(segmenter, options)
    counts = {"documents": 0, "characters": 0, "sentences": 0}
    rejected: list[CorpusError] = []
    num_rejected = 0

    def reject(error: CorpusError) -> None:
        nonlocal num_rejected
        num_rejected += 1
        if not rejected:
            rejected.append(error)

    with WorkProgress("segment", "bytes") as progress, opened_output(output, source) as file:
        documents = read_documents(source, text_field, id_field, reject, _reading(progress, str(source)))
        for batch in _batches(documents):
            for (identity, text), ends in zip(batch, chosen.split([text for _, text in batch]), strict=True):
                line = json.dumps({"id": identity, "ends": ends.tolist()}, ensure_ascii=True)
                file.write(line.encode() + b"\n")
                counts["documents"] += 1
                counts["characters"] += len(text)
                counts["sentences"] += len(ends)
        num_lines = counts["documents"] + num_rejected
        if num_rejected > MAX_REJECTED_FRACTION * num_lines:
            raise CorpusError(
                f"{num_rejected} of {num_lines} lines are no documents, more than {MAX_REJECTED_FRACTION:.0%}; "
                f"the first: {rejected[0]}"
            )
    return Segmented(**counts, rejected=num_rejected, first_rejected=str(rejected[0]) if rejected else None)


def _reading(progress: WorkProgress, path: str) -> Callable[[bytes], None]:
    """A function that draws how far a file is read, to call with its stored bytes."""
    passes: list[Callable[[float], None]] = []

    def advance(stored: bytes) -> None:
        if not passes:
            passes.append(progress.begin("segment", stored_bytes(path)))
        passes[0](len(stored))

    return advance


def _batches(documents: Iterable[tuple[Any, str]]) -> Iterator[list[tuple[Any, str]]]:
    batch: list[tuple[Any, str]] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document[1])
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def list_segmenters() -> None:
    """Print every segmenter by name: its description, or why it is not usable here, and its options with their
    defaults."""
    for name in sorted(segmenters.names()):
        try:
            chosen = segmenters.load(name)
        except SegmenterError as error:
            print(printable(f"{name}\n    not usable here: {error}"))
            continue
        print(printable(f"{name}\n    {(type(chosen).__doc__ or '').partition(chr(10))[0]}"))
        for field in dataclasses.fields(chosen):
            print(printable(f"    --option {field.name}={getattr(chosen, field.name)}"))
