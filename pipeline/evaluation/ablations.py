"""Ablations: a document's latents are replaced by others, to measure how much the decoder uses them."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.sllm import Sllm
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import DocumentSource, Int64, SentenceWindows, Windows

Ablation = Literal["none", "zeroed", "shuffled", "oracle"]
"""What replaces the predicted latents and the context latents (with `state_attention_sentences` the predicted latents
alone, for the decoder has read the document itself): zeros, or the latents of another document. `oracle`
replaces only the predicted latents, by the encoder's latent of the sentence itself; only a decoder that was trained as
an autoencoder can use it."""

SEED = 0
"""Seed of the permutation of the documents."""


def score(
    model: Sllm, batch: SentenceBatch, ablation: Ablation = "none", other: SentenceBatch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `Sllm.score`, under an ablation.

    `other`, for "shuffled": a window of another document for each window of the batch (`OtherDocuments`).
    """
    encoded = model.encode(batch)
    latents_SH = encoded.latents_SH
    predicted_SH, stop_logits_S = model.predict(latents_SH, batch)
    if ablation == "zeroed":
        predicted_SH, latents_SH = torch.zeros_like(predicted_SH), torch.zeros_like(latents_SH)
    elif ablation == "oracle":
        predicted_SH = latents_SH
    elif ablation == "shuffled":
        assert other is not None
        taken_S, latents_SH = sentences_in(other, batch), model.encode(other).latents_SH
        predicted_SH, latents_SH = model.predict(latents_SH, other)[0][taken_S], latents_SH[taken_S]
    return model.nll(predicted_SH, stop_logits_S, replace(encoded, latents_SH=latents_SH), batch)


def sentences_in(other: SentenceBatch, batch: SentenceBatch) -> Tensor:
    """For each sentence of `batch` the sentence of `other` at the same index of the same window [S]; indexes wrap
    around where that window has fewer sentences."""
    counts_D = torch.bincount(other.window_S, minlength=len(other.document_D))
    first_D = counts_D.cumsum(0) - counts_D
    return first_D[batch.window_S] + batch.index_S % counts_D[batch.window_S]


def has_other_documents(documents: DocumentSource) -> bool:
    """Whether there are at least two documents with sentences."""
    return int(np.count_nonzero(np.diff(documents.sentence_starts_N1))) > 1


class OtherDocuments:
    """For each window of a document a window of another document, independent of the micro-batches.

    A random permutation of the documents with one cycle: each document takes the latents of the next one, window by
    window; windows wrap around where that one has fewer.
    """

    def __init__(self, source: SentenceWindows) -> None:
        """Raises `ModelError` for fewer than two documents with sentences."""
        self._source = source
        self._other_W = windows_of_other_documents(source.windows)

    def batch(self, index: Int64) -> SentenceBatch:
        """The windows of other documents for the windows `index`, with at most as many sentences."""
        windows = self._source.windows
        counts_D = (windows.end_W - windows.start_W)[index]
        return self._source.beginnings(self._other_W[index], counts_D)


def windows_of_other_documents(windows: Windows) -> Int64:
    """For each window a window of another document [W]. Raises `ModelError` where there is only one document."""
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
