"""Batches for array code: many short texts joined, a very long text in windows."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from segmenters.contract import Ends

BATCH_CHARACTERS = 2**20
"""Characters of the texts in one call of `Segmenter.split`: enough to hide the cost of a call, small in memory."""
WINDOW = 2**18
"""Characters per batch: enough to hide the cost of a call, few enough for the processor's caches."""
CONTEXT = 2**11
"""Characters of context on both sides of a window of a longer text."""
SEPARATOR = "\n"
"""Character before, between and after the texts of a batch."""


class _Piece(NamedTuple):
    """The part of a text whose boundaries a batch decides: characters `first` to `last`."""

    number: int
    first: int
    last: int
    start: int
    """Offset in the batch where the text, or the window of it, begins."""
    shift: int
    """Offset in the batch minus offset in the text."""


def split_batched(texts: list[str], sentence_starts: Callable[[str, Ends], Ends]) -> list[Ends]:
    """The ends of each text, by `sentence_starts` on batches: texts with `SEPARATOR` around each.

    `sentence_starts` takes a batch and the offsets of its texts, and returns increasing offsets where sentences begin.
    Those up to the first character of a text that is not white space are ignored. Memory is bounded by `WINDOW`, not by
    the longest text.
    """
    found: list[list[Ends]] = [[] for _ in texts]
    for batch, pieces in _batches(texts):
        start_M = sentence_starts(batch, np.array([piece.start for piece in pieces], np.int64))
        lows = np.searchsorted(start_M, [piece.first + piece.shift for piece in pieces], side="right")
        highs = np.searchsorted(start_M, [piece.last + piece.shift for piece in pieces], side="left")
        for piece, low, high in zip(pieces, lows.tolist(), highs.tolist(), strict=True):
            found[piece.number].append(start_M[low:high] - piece.shift)
    return [
        np.concatenate([*ends, [len(text)]]).astype(np.int64) if text else np.empty(0, np.int64)
        for text, ends in zip(texts, found, strict=True)
    ]


def _batches(texts: list[str]) -> Iterator[tuple[str, list[_Piece]]]:
    """Batches of about `WINDOW` characters; starts at `first` and at `last` of a piece are ignored.

    So a start at the border of two windows belongs to the later one, whose `first` is one less.
    """
    parts, pieces, size = [SEPARATOR], [], len(SEPARATOR)
    for index, text in enumerate(texts):
        lead = len(text) - len(text.lstrip())
        for start in range(0, len(text), WINDOW):
            end = min(start + WINDOW, len(text))
            low = max(0, start - CONTEXT)
            part = text[low : end + CONTEXT]
            pieces.append(_Piece(index, max(lead, start - 1), end, size, size - low))
            parts += part, SEPARATOR
            size += len(part) + len(SEPARATOR)
            if size >= WINDOW:
                yield "".join(parts), pieces
                parts, pieces, size = [SEPARATOR], [], len(SEPARATOR)
    if pieces:
        yield "".join(parts), pieces
