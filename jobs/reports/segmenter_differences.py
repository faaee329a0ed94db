"""`sllm segment --compare A,B,C FILE`: how segmenters split the same text, and the terminal's view of it."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import segmenters
from jobs.runner.printable_console import PrintableConsole
from pipeline.corpus.document_lines import read_documents
from pipeline.corpus.format_detection import START_BYTES
from pipeline.corpus.formats.json_layout import json_layout
from pipeline.corpus.formats.lines import without_byte_order_marks
from pipeline.corpus.opening.compression import compression_of
from pipeline.corpus.opening.streams import first_bytes, text_chunks
from pipeline.errors import CorpusError
from pipeline.printable import printable
from segmenters.contract import Ends

_LARGEST_TEXT = 2**28
LENGTH_BINS = (8, 16, 32, 64, 128, 256, 512)
"""Upper edges of the histogram of lengths, in characters; the last bin is open."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Texts, and by segmenter the ends of the sentences of each."""

    texts: list[str]
    ends: dict[str, list[Ends]]

    def pieces(self, number: int) -> list[tuple[str, list[bool]]]:
        """Text `number`, cut wherever a segmenter cuts it: each piece with the segmenters that end a sentence after
        it."""
        all_ends = [ends[number] for ends in self.ends.values()]
        edges = np.unique(np.concatenate(all_ends)).tolist()
        sets = [set(ends.tolist()) for ends in all_ends]
        text = self.texts[number]
        return [
            (text[low:high], [high in one for one in sets])
            for low, high in zip([0, *edges], edges, strict=False)
        ]

    def lengths(self, name: str) -> Ends:
        """Length of every sentence in characters."""
        return np.concatenate(
            [np.diff(ends, prepend=0) for ends in self.ends[name]] or [np.empty(0, np.int64)]
        )


def compare(names: Sequence[str], source: str | Path, max_characters: int = 20_000) -> Comparison:
    """How these segmenters, with their defaults, split the start of a file: JSONL with `text`, or plain text.

    Raises `SegmenterError` for an unknown segmenter, `CorpusError` for a file that cannot be read.
    """
    path = str(source)
    texts, size = list[str](), 0
    for text in _texts(path):
        texts.append(text[: max_characters - size])
        size += len(texts[-1])
        if size >= max_characters:
            break
    return Comparison(texts, {name: segmenters.load(name).split(texts) for name in names})


def _texts(path: str) -> Iterable[str]:
    if Path(path).is_dir():
        raise CorpusError(f"{path} is a folder: name a file")
    compression = compression_of(first_bytes(path, START_BYTES))
    start = next(text_chunks(path, compression), b"")[:START_BYTES]
    is_whole = len(start) < START_BYTES
    if ".jsonl" in Path(path).suffixes or json_layout(start.decode(errors="replace"), is_whole) == "lines":
        return (text for _, text in read_documents(path))
    chunks, size = list[bytes](), 0
    for chunk in text_chunks(path, compression):
        chunks.append(chunk)
        size += len(chunk)
        if size > _LARGEST_TEXT:
            raise CorpusError(
                f"{path}: over {_LARGEST_TEXT} bytes of text; name a smaller file, or JSON lines"
            )
    data = b"".join(chunks)
    try:
        return [without_byte_order_marks(data).decode()]
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error


def show(comparison: Comparison, limit_characters: int = 320, console: Console | None = None) -> None:
    """Print the sentences side by side: one row per piece, with a sign for each segmenter that ends a sentence after
    it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("text", overflow="fold", ratio=1)
    for name in comparison.ends:
        table.add_column(name, justify="center")
    for number in range(len(comparison.texts)):
        if number:
            table.add_section()
        for piece, who in comparison.pieces(number):
            agreed = all(who)
            text = Text(printable(piece.replace("\n", "⏎")), style="" if agreed else "bold yellow")
            table.add_row(
                text, *(Text("┃" if one else "·", style="green" if agreed else "red") for one in who)
            )
    console = console or PrintableConsole()
    console.print(table)
    for name in comparison.ends:
        lengths = comparison.lengths(name)
        over = int((lengths > limit_characters).sum())
        middle = int(np.median(lengths)) if len(lengths) else 0
        console.print(
            f"{name}: {len(lengths)} sentences, median {middle} characters, {over} over {limit_characters}"
        )
