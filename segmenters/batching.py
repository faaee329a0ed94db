"""Many short texts as one long one, a very long one in windows: arrays of a good size for array code."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from segmenters.contract import Ends

WINDOW = 2**18
"""Characters looked at together: enough to forget the cost of a call, few enough for the caches."""
CONTEXT = 2**11
"""Characters that are looked at again on both sides of a window inside a longer text."""
SEPARATOR = "\n"
"""Before, between and behind the texts of a batch."""


class _Piece(NamedTuple):
    """The part of a text that a batch decides on: its characters from `first` up to `last`."""

    number: int
    first: int
    last: int
    start: int
    """Place in the batch where the text, or the window of it, begins."""
    shift: int
    """Place in the batch minus place in the text."""


def split_batched(texts: list[str], places: Callable[[str, Ends], Ends]) -> list[Ends]:
    """The ends of every text, from `places`, which finds them in a batch: texts with `SEPARATOR` around each.

    `places` takes the batch and the offsets of its texts, and returns, in order, offsets where a
    sentence begins; those at or before the first character of a
    text that is not white space do not count. Memory is bounded by `WINDOW`, not by the longest text.
    """
    found: list[list[Ends]] = [[] for _ in texts]
    for batch, pieces in _batches(texts):
        place_M = places(batch, np.array([piece.start for piece in pieces], np.int64))
        lows = np.searchsorted(place_M, [piece.first + piece.shift for piece in pieces], side="right")
        highs = np.searchsorted(place_M, [piece.last + piece.shift for piece in pieces], side="left")
        for piece, low, high in zip(pieces, lows.tolist(), highs.tolist(), strict=True):
            found[piece.number].append(place_M[low:high] - piece.shift)
    return [
        np.concatenate([*ends, [len(text)]]).astype(np.int64) if text else np.empty(0, np.int64)
        for text, ends in zip(texts, found, strict=True)
    ]


def _batches(texts: list[str]) -> Iterator[tuple[str, list[_Piece]]]:
    """Batches of about `WINDOW` characters; places at `first` itself and at `last` are left out.

    So a place on the edge of two windows belongs to the later one, whose `first` is one before it.
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
