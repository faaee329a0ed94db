"""`sllm segment --compare --html`: the same text under several segmenters, and where they differ."""

import dataclasses
import itertools
import string
from pathlib import PurePath

import numpy as np

from jobs.pages.charts import Series, histogram
from jobs.pages.rendering import render
from jobs.reports.segmenter_differences import LENGTH_BINS, Comparison
from pipeline.redaction import redacted

_COLORS = 6
"""Colours in the style sheet; later segmenters begin again."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Text up to a place where at least one segmenter ends a sentence."""

    text: str
    enders: tuple[int, ...] = ()
    """Numbers of the segmenters that end one there, if not all do."""
    title: str = ""

    @property
    def lines(self) -> list[str]:
        """Its lines, without the line break that ends the last one."""
        return self.text.removesuffix("\n").split("\n")

    @property
    def ends_line(self) -> bool:
        """Whether a line break is its last character."""
        return self.text.endswith("\n")


@dataclasses.dataclass(frozen=True)
class Row:
    """Text between two places where all segmenters end a sentence."""

    pieces: tuple[Piece, ...]

    @property
    def differs(self) -> bool:
        """Whether some, but not all, end a sentence inside."""
        return len(self.pieces) > 1


def segmenters_page(comparison: Comparison, source: str, limit_characters: int = 320) -> bytes:
    """The page: figures of each segmenter, agreement of each two, lengths, and the text with all ends."""
    names = list(comparison.ends)
    texts = [_rows(comparison, number, names) for number in range(len(comparison.texts))]
    legend = [Series(name, (), color=number % _COLORS) for number, name in enumerate(names)]
    return render(
        "segmenters.html",
        title=f"Segmenters compared: {PurePath(redacted(source)).name}",
        source=redacted(source),
        names=names,
        letters=_letters(len(names)),
        colors=[one.color for one in legend],
        legend=legend,
        figures=_figures(comparison, limit_characters),
        agreement=_agreement(comparison),
        chart=histogram(_bins(comparison), "characters in a sentence", names),
        texts=texts,
        num_characters=sum(map(len, comparison.texts)),
        num_rows=sum(map(len, texts)),
        num_different=sum(row.differs for rows in texts for row in rows),
        limit=limit_characters,
    )


def _letters(count: int) -> list[str]:
    letters = string.ascii_uppercase
    return [letters[i] if i < len(letters) else str(i + 1) for i in range(count)]


def _rows(comparison: Comparison, number: int, names: list[str]) -> list[Row]:
    rows, pieces = [], list[Piece]()
    for text, who in comparison.pieces(number):
        if all(who):
            rows.append(Row((*pieces, Piece(text))))
            pieces = []
            continue
        ends = tuple(index for index, one in enumerate(who) if one)
        others = ", ".join(name for name, one in zip(names, who, strict=True) if not one)
        title = f"{', '.join(names[index] for index in ends)} here, not {others}"
        pieces.append(Piece(text, ends, title))
    return rows


def _figures(comparison: Comparison, limit: int) -> list[tuple[str, int, int, int, int]]:
    """Name, sentences, median and largest length in characters, and sentences over the limit."""
    found = []
    for name in comparison.ends:
        lengths = comparison.lengths(name)
        middle, longest = (int(np.median(lengths)), int(lengths.max())) if len(lengths) else (0, 0)
        found.append((name, len(lengths), middle, longest, int((lengths > limit).sum())))
    return found


def _agreement(comparison: Comparison) -> list[list[float | None]]:
    """F1 of the ends of each two segmenters, in their order; None on the diagonal and where neither has any.

    The end of a text does not count: all have it.
    """
    ends = [
        {(number, end) for number, one in enumerate(of_texts) for end in one[:-1].tolist()}
        for of_texts in comparison.ends.values()
    ]
    found: list[list[float | None]] = [[None] * len(ends) for _ in ends]
    for i, j in itertools.permutations(range(len(ends)), 2):
        both = len(ends[i]) + len(ends[j])
        found[i][j] = 2 * len(ends[i] & ends[j]) / both if both else None
    return found


def _bins(comparison: Comparison) -> list[tuple[str, list[float]]]:
    labels = [*(f"≤{edge}" for edge in LENGTH_BINS), "more"]
    counts = [
        np.bincount(
            np.searchsorted(LENGTH_BINS, lengths := comparison.lengths(name)), minlength=len(labels)
        ) / max(1, len(lengths))
        for name in comparison.ends
    ]  # fmt: skip
    return [(label, [float(one[index]) for one in counts]) for index, label in enumerate(labels)]
