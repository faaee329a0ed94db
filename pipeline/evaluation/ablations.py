"""Whose latents stand in for a document's own, to see whether the decoder uses them at all."""

import numpy as np

from pipeline.errors import ModelError
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.window_batches import DocumentSource, SentenceWindows
from pipeline.stream.windows import Int64, Windows

SEED = 0
"""Of the permutation of the documents."""


def has_other_documents(documents: DocumentSource) -> bool:
    """Whether there are two documents with sentences, so that each has another one."""
    return int(np.count_nonzero(np.diff(documents.sentence_starts_N1))) > 1


class OtherDocuments:
    """For each window of a document one of another document, whatever shares the micro-batch.

    The documents stand in a circle, in an order drawn once; each takes the latents of the next one, window by window
    from its start, and from the start again where that one has fewer windows.
    """

    def __init__(self, source: SentenceWindows) -> None:
        """Raises `ModelError` where there are no two documents with sentences."""
        self._source = source
        self._other_W = windows_of_other_documents(source.windows)

    def batch(self, index: Int64) -> SentenceBatch:
        """Windows of other documents in place of the windows `index`, with no more sentences than those have."""
        windows = self._source.windows
        counts_D = (windows.end_W - windows.start_W)[index]
        return self._source.beginnings(self._other_W[index], counts_D)


def windows_of_other_documents(windows: Windows) -> Int64:
    """For each window one of another document [W]. Raises `ModelError` where there is only one document."""
    documents_N, first_N, own_W, counts_N = np.unique(
        windows.document_W, return_index=True, return_inverse=True, return_counts=True
    )
    if len(documents_N) < 2:
        raise ModelError(
            "latents of another document need two documents with sentences: evaluate on more, or set "
            "evaluate.ablations=false"
        )
    order = np.random.Generator(np.random.Philox(SEED)).permutation(len(documents_N))
    next_N = np.empty_like(order)
    next_N[order] = np.roll(order, -1)
    rank_W = np.arange(len(own_W)) - first_N[own_W]
    other_W = next_N[own_W]
    result: Int64 = first_N[other_W] + rank_W % counts_N[other_W]
    return result
