"""Exact likelihoods of whole documents, for token-level and sentence-level models.

The negative log-likelihood (NLL) of a document is the sum over all its tokens, each sentence's EOS and each stop
decision; for a token-level model, over all tokens and the EOS. Bits per byte = NLL / (ln 2 x UTF-8 bytes). Perplexity
is per document token: EOS is in the sum but not in the count. Sums over documents are divided once; batch means are
never averaged. Documents longer than a model's context are covered by windows that overlap by half, and each token is
counted once, with context unless it is at the start of its document.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.evaluation.ablations import Ablation, OtherDocuments
from pipeline.evaluation.scoring import (
    Float64,
    Reconstructed,
    TokenScores,
    reconstruct,
    score_sentences,
    score_tokens,
)
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.order import in_order
from pipeline.stream.windows import DocumentSource, Int64, SentenceWindows, TokenWindows


def bits_per_byte(nll: float, num_bytes: float) -> float:
    """NLL (nats) / (ln 2 x UTF-8 bytes)."""
    return nll / (math.log(2) * num_bytes)


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of documents under a model."""

    nll: float
    """Negative log-likelihood in nats, summed over documents."""
    tokens: int
    """Document tokens."""
    num_bytes: int
    """UTF-8 bytes of the documents."""
    documents: int

    @property
    def bits_per_byte(self) -> float:
        """NLL / (ln 2 x bytes)."""
        return bits_per_byte(self.nll, self.num_bytes)

    @property
    def perplexity(self) -> float:
        """exp(NLL / document tokens)."""
        return math.exp(min(self.nll / self.tokens, 700.0))

    def as_dict(self) -> dict[str, float]:
        """All figures, for tables and JSON."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "perplexity_per_token": self.perplexity,
            "nll": self.nll,
            "tokens": self.tokens,
            "bytes": self.num_bytes,
            "documents": self.documents,
        }


@dataclass(frozen=True)
class Reconstruction:
    """How well the SentenceVAE reconstructs sentences from their latents."""

    token_accuracy: float
    """Share of tokens and EOS that are the likeliest, given the true tokens before them."""
    exact_sentences: float
    """Share of sentences that greedy decoding reconstructs exactly: each token is the likeliest."""
    perplexity: float
    """exp(NLL / document tokens) of sentences given their latents; EOS is in the sum but not in the count."""
    sentences: int

    def as_dict(self) -> dict[str, float]:
        """All figures, for tables and JSON."""
        return dict(vars(self))


def likelihood(documents: DocumentSource, nll_N: Float64) -> Likelihood:
    """The likelihood from the NLL of each document. Raises `ModelError` where a document has none."""
    (without_N,) = np.nonzero(~np.isfinite(nll_N))
    if len(without_N):
        raise ModelError(
            f"the model gives {len(without_N)} of {len(nll_N)} documents no likelihood (the first is document "
            f"{without_N[0]}, NLL {nll_N[without_N[0]]}): its training diverged; take an earlier checkpoint"
        )
    return Likelihood(
        nll=float(nll_N.sum()),
        tokens=int(documents.token_starts_N1[-1] - documents.token_starts_N1[0]),
        num_bytes=int(documents.num_bytes_N.sum()),
        documents=len(nll_N),
    )


def likelihood_of_tokens(documents: DocumentSource, nll_T: Float64) -> Likelihood:
    """The likelihood from the NLL of each token (`token_lm_nll_by_token`, `sllm_nll_by_token`)."""
    return likelihood(documents, nll_by_document(documents, nll_T))


def covering_edges(documents: DocumentSource, edges: Sequence[int]) -> list[int]:
    """`edges`, extended by 0 and the length of the longest document where they exclude tokens."""
    longest = int(np.diff(documents.token_starts_N1).max(initial=0))
    first, last = [0] * (edges[0] > 0), [longest] * (longest > edges[-1])
    return [*first, *edges, *last]


def bits_per_byte_by_position(
    documents: DocumentSource, nll_T: Float64, bytes_V: Int64, edges: Sequence[int]
) -> list[float]:
    """Bits per byte of tokens at positions edges[i] to edges[i + 1] of their document; NaN where there are none.

    `bytes_V`: UTF-8 bytes of each token.
    """
    starts_N1 = documents.token_starts_N1
    counts_N = np.diff(starts_N1)
    position_T = np.arange(len(nll_T)) - np.repeat(starts_N1[:-1] - starts_N1[0], counts_N)
    bytes_T = bytes_V[np.concatenate([_tokens(documents, i) for i in range(len(counts_N))])]
    bin_T = np.searchsorted(
        edges, position_T, side="right"
    )  # 0 before the first edge, len(edges) past the last
    nll, num_bytes = (np.bincount(bin_T, x, minlength=len(edges) + 1)[1:-1] for x in (nll_T, bytes_T))
    return [bits_per_byte(float(n), b) if b else math.nan for n, b in zip(nll, num_bytes, strict=True)]


def token_lm_nll(model: TokenLm, source: TokenWindows, micro_batch_tokens: int) -> Float64:
    """NLL (nats) of each document under a token-level model [N]."""
    return nll_by_document(source.documents, token_lm_nll_by_token(model, source, micro_batch_tokens))


def sllm_nll(
    model: Sllm,
    source: SentenceWindows,
    micro_batch_tokens: int,
    ablation: Ablation = "none",
) -> Float64:
    """NLL (nats) of each document under a sentence-level model [N]."""
    nll_T = sllm_nll_by_token(model, source, micro_batch_tokens, ablation)
    return nll_by_document(source.documents, nll_T)


def token_lm_nll_by_token(model: TokenLm, source: TokenWindows, micro_batch_tokens: int) -> Float64:
    """NLL (nats) of each document token [T], document after document; the last one includes the EOS."""
    return nll_by_token(source.documents, score_tokens(model, source, in_order(source, micro_batch_tokens)))


def sllm_nll_by_token(
    model: Sllm,
    source: SentenceWindows,
    micro_batch_tokens: int,
    ablation: Ablation = "none",
) -> Float64:
    """NLL (nats) of each document token [T], document after document; the last one of a sentence includes
    its EOS and the decision to go on or to stop."""
    others = OtherDocuments(source) if ablation == "shuffled" else None
    micro_batches = in_order(source, micro_batch_tokens)
    return nll_by_token(source.documents, score_sentences(model, source, micro_batches, ablation, others))


def nll_by_token(documents: DocumentSource, scores: Iterable[TokenScores]) -> Float64:
    """The NLL of all tokens of the documents [T] from those of all micro-batches, in any order."""
    nll_T = np.full(documents.token_starts_N1[-1] - documents.token_starts_N1[0], np.nan)
    tokens = 0
    for of_micro_batch in scores:
        nll_T[of_micro_batch.token_T] = of_micro_batch.nll_T
        tokens += len(of_micro_batch.token_T)
    assert tokens == len(nll_T), "each token is counted once"
    return nll_T


def reconstruction(model: SentenceVae, source: SentenceWindows, micro_batch_tokens: int) -> Reconstruction:
    """How well the model reconstructs the sentences of `source`."""
    return reconstruction_of(reconstruct(model, in_order(source, micro_batch_tokens)))


def reconstruction_of(parts: Iterable[Reconstructed]) -> Reconstruction:
    """The figures of all micro-batches, in their order."""
    positions = hits = sentences = exact = tokens = 0
    nll = 0.0
    for part in parts:
        positions, hits = positions + part.positions, hits + part.hits
        sentences, exact = sentences + part.sentences, exact + part.exact
        nll, tokens = nll + part.nll, tokens + part.tokens
    return Reconstruction(
        token_accuracy=hits / positions,
        exact_sentences=exact / sentences,
        perplexity=math.exp(min(nll / tokens, 700.0)),
        sentences=sentences,
    )


def token_counts(documents: DocumentSource, vocab_size: int) -> Int64:
    """How often each token occurs in the documents [V]."""
    counts_V = np.zeros(vocab_size, np.int64)
    for document in range(len(documents.num_bytes_N)):
        counts_V += np.bincount(_tokens(documents, document), minlength=vocab_size)
    return counts_V


def unigram_nll(counts_V: Int64, num_documents: int, dev: DocumentSource) -> Float64:
    """NLL (nats) of each dev document under token frequencies of the train split, plus one each; with EOS.

    `counts_V`: `token_counts` of the `num_documents` train documents.
    """
    num_documents = max(num_documents, 1)
    counts_V = counts_V + 1
    total = float(counts_V.sum() + num_documents)
    nll_V = -np.log(counts_V / total)
    end_nll = -math.log(num_documents / total)
    return np.array([nll_V[_tokens(dev, i)].sum() + end_nll for i in range(len(dev.num_bytes_N))])


def _tokens(documents: DocumentSource, document: int) -> NDArray[np.int32]:
    starts = documents.token_starts_N1
    return documents.tokens(int(starts[document]), int(starts[document + 1]))


def nll_by_document(documents: DocumentSource, nll_T: Float64) -> Float64:
    """NLL of each document [N] from those of its tokens."""
    starts_N1 = documents.token_starts_N1
    document_T = np.repeat(np.arange(len(starts_N1) - 1), np.diff(starts_N1))
    sums_N: Float64 = np.bincount(document_T, nll_T, minlength=len(starts_N1) - 1).astype(np.float64)
    return sums_N


def longest_sentence(documents: DocumentSource) -> int:
    """Tokens of the longest sentence; 0 where there is none."""
    starts_N1 = documents.sentence_starts_N1
    return int(documents.sentence_lengths[starts_N1[0] : starts_N1[-1]].max(initial=0))


def select_documents(documents: DocumentSource, count: int | None) -> DocumentSource:
    """The first `count` documents, or all."""
    return documents if count is None else _FirstDocuments(documents, count)


class _FirstDocuments:
    """A view of the first documents of a source."""

    def __init__(self, documents: DocumentSource, count: int) -> None:
        self._documents = documents
        self.num_bytes_N: Int64 = documents.num_bytes_N[:count]
        self.sentence_lengths = documents.sentence_lengths
        self.sentence_starts_N1: Int64 = documents.sentence_starts_N1[: count + 1]
        self.token_starts_N1: Int64 = documents.token_starts_N1[: count + 1]

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        return self._documents.tokens(start, end)

    def gather(self, start_W: Int64, end_W: Int64) -> NDArray[np.int32]:
        return self._documents.gather(start_W, end_W)
