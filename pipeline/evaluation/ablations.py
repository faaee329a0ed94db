"""Ablations: other latents replace a document's own, to see whether the decoder uses them at all."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.sllm import Sllm
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import DocumentSource, Int64, SentenceWindows, Windows

Ablation = Literal["none", "zeroed", "shuffled", "oracle"]
"""What replaces the predicted latents, and the latents that the context attention sees: zeros; latents of another
document; or, for the predicted ones alone, the encoder's latent of the sentence itself (which a decoder trained apart
from the trunk can use, and one trained with it from the start perhaps not)."""

SEED = 0
"""Of the permutation of the documents."""


def score(
    model: Sllm, batch: SentenceBatch, ablation: Ablation = "none", other: SentenceBatch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `Sllm.score` gives, under an ablation.

    `other`, for "shuffled": a window of another document for each window of the batch (`OtherDocuments`).
    """
    context_SH = model.vae.encode(batch)
    predicted_SH, stop_logits_S = model.predict(context_SH, batch)
    if ablation == "zeroed":
        predicted_SH, context_SH = torch.zeros_like(predicted_SH), torch.zeros_like(context_SH)
    elif ablation == "oracle":
        predicted_SH = context_SH
    elif ablation == "shuffled":
        assert other is not None
        taken_S, context_SH = sentences_in(other, batch), model.vae.encode(other)
        predicted_SH, context_SH = model.predict(context_SH, other)[0][taken_S], context_SH[taken_S]
    return model.nll(predicted_SH, stop_logits_S, context_SH, batch)


def sentences_in(other: SentenceBatch, batch: SentenceBatch) -> Tensor:
    """For each sentence of `batch` the one of `other` at the same index of the same window [S]; where that window has
    fewer, from its start again."""
    counts_D = torch.bincount(other.window_S, minlength=len(other.document_D))
    first_D = counts_D.cumsum(0) - counts_D
    return first_D[batch.window_S] + batch.index_S % counts_D[batch.window_S]


def has_other_documents(documents: DocumentSource) -> bool:
    """Whether there are two documents with sentences, so that each has another one."""
    return int(np.count_nonzero(np.diff(documents.sentence_starts_N1))) > 1


class OtherDocuments:
    """For each window of a document one of another document, whatever shares the micro-batch.

    A permutation of the documents, drawn once, has one cycle; each takes the latents of the next one, window by window
    from its start, and from the start again where that one has fewer windows.
    """

    def __init__(self, source: SentenceWindows) -> None:
        """Raises `ModelError` where there are no two documents with sentences."""
        self._source = source
        self._other_W = windows_of_other_documents(source.windows)

    def batch(self, index: Int64) -> SentenceBatch:
        """For the windows `index` those of other documents, with no more sentences than they have."""
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
