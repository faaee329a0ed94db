"""Windows over documents: what a model sees at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """W windows over documents, in units (sentences, or tokens) that run on from document to document.

    A document longer than a window is covered by several; each repeats units of those before it, as context that is
    not scored again.
    """

    document_W: Int64
    """Document of each window."""
    start_W: Int64
    """First unit."""
    end_W: Int64
    """End unit, exclusive."""
    context_W: Int64
    """Leading units that an earlier window has scored."""
    ends_document_W: NDArray[np.bool_]
    """Does the window reach the end of its document?"""

    @classmethod
    def cover(cls, starts_N1: Int64, size: int, overlap: int = 0) -> "Windows":
        """Windows of at most `size` units over documents whose units start at `starts_N1` (N + 1 offsets).

        Each scores up to `size` - `overlap` units, behind as many as there are of the `overlap` units before them.
        """
        assert 0 <= overlap < size
        stride = size - overlap
        windows_N = -(-np.diff(starts_N1) // stride)
        document_W = np.repeat(np.arange(len(windows_N)), windows_N)
        rank_W = np.arange(len(document_W)) - np.repeat(np.cumsum(windows_N) - windows_N, windows_N)
        scored_W = starts_N1[document_W] + rank_W * stride
        start_W = np.maximum(scored_W - overlap, starts_N1[document_W])
        end_W = np.minimum(scored_W + stride, starts_N1[document_W + 1])
        return cls(
            document_W,
            start_W,
            end_W,
            scored_W - start_W,
            end_W == starts_N1[document_W + 1],
        )

    def __len__(self) -> int:
        return len(self.document_W)
