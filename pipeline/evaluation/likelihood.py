"""Exact likelihoods of whole documents, for token-level and sentence-level models.

The negative log-likelihood (NLL) of a document is the sum over all its tokens, each sentence's EOS and each stop
decision; for a token-level model, over all tokens and the EOS. Bits per byte = NLL / (ln 2 x UTF-8 bytes). Perplexity
is per document token: EOS is in the sum but not in the count. Sums over documents are divided once; batch means are
never averaged. Documents longer than a model's context are covered by windows that overlap by half, and each token is
counted once, with context unless it is at the start of its document.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import ModelError
from pipeline.evaluation.ablations import Ablation, OtherDocuments, score
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch, TokenBatch
from pipeline.stream.order import MicroBatch, in_order
from pipeline.stream.windows import DocumentSource, Int64, SentenceWindows, TokenWindows, WindowSource

Float64 = NDArray[np.float64]


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
    return likelihood(documents, _by_document(documents, nll_T))


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
    return _by_document(source.documents, token_lm_nll_by_token(model, source, micro_batch_tokens))


def sllm_nll(
    model: Sllm,
    source: SentenceWindows,
    micro_batch_tokens: int,
    ablation: Ablation = "none",
) -> Float64:
    """NLL (nats) of each document under a sentence-level model [N]."""
    nll_T = sllm_nll_by_token(model, source, micro_batch_tokens, ablation)
    return _by_document(source.documents, nll_T)


@torch.inference_mode()
def token_lm_nll_by_token(model: TokenLm, source: TokenWindows, micro_batch_tokens: int) -> Float64:
    """NLL (nats) of each document token [T], document after document; the last one includes the EOS."""
    nll_T = _no_nll(source.documents)
    first = source.documents.token_starts_N1[0]
    for plan, batch in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, TokenBatch)
        nll_DL = model.score(batch).double().cpu().numpy()
        for window, row_L in zip(plan.windows, nll_DL, strict=True):
            start, end = source.windows.start_W[window] - first, source.windows.end_W[window] - first
            context = source.windows.context_W[window]
            nll_T[start + context : end] = row_L[context : end - start]
            if source.windows.ends_document_W[window]:
                nll_T[end - 1] += row_L[end - start]
    return nll_T


@torch.inference_mode()
def sllm_nll_by_token(
    model: Sllm,
    source: SentenceWindows,
    micro_batch_tokens: int,
    ablation: Ablation = "none",
) -> Float64:
    """NLL (nats) of each document token [T], document after document; the last one of a sentence includes
    its EOS and the decision to go on or to stop."""
    nll_T = _no_nll(source.documents)
    first = source.documents.token_starts_N1[0]
    units = 0
    others = OtherDocuments(source) if ablation == "shuffled" else None
    for plan, batch in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, SentenceBatch)
        other = None if others is None else others.batch(plan.windows).to(batch.tokens_T.device)
        nll_R, stop_nll_S, _ = score(model, batch, ablation, other)
        decoded = batch.decoded
        paid_R, in_loss_S = nll_R.double().cpu().numpy(), decoded.in_loss_S.cpu().numpy()
        ends_S = np.cumsum(decoded.positions.lengths_S.cpu().numpy()) - 1
        own_T = np.delete(paid_R, ends_S)
        last_S = ends_S - 1 - np.arange(len(ends_S))
        own_T[last_S] += paid_R[ends_S] + stop_nll_S.double().cpu().numpy()
        ends_W = source.token_end_W[plan.windows] - first
        spans = zip(ends_W - source.tokens_W[plan.windows], ends_W, strict=True)
        scored_T = in_loss_S[decoded.sentences.sequence_T.cpu().numpy()]
        units += int(scored_T.sum() + in_loss_S.sum())
        nll_T[np.concatenate([np.arange(*span) for span in spans])] = own_T[scored_T]
    sentences = source.documents.sentence_starts_N1[-1] - source.documents.sentence_starts_N1[0]
    assert units == len(nll_T) + sentences, "each token and each EOS is counted once"
    return nll_T


@torch.inference_mode()
def reconstruction(model: SentenceVae, source: SentenceWindows, micro_batch_tokens: int) -> Reconstruction:
    """How well the model reconstructs the sentences of `source`."""
    hits = positions = exact = sentences = tokens_seen = 0
    nll = 0.0
    for plan, batch in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, SentenceBatch)
        nll_R, hit_R = model.token_nll(model.encode(batch), batch)
        misses_S = torch.zeros(len(batch.decoded.stop_S), device=hit_R.device)
        misses_S.index_add_(0, batch.decoded.positions.sequence_T, (~hit_R).float())
        hits, positions = hits + int(hit_R.sum()), positions + len(hit_R)
        exact, sentences = exact + int((misses_S == 0).sum()), sentences + len(misses_S)
        nll, tokens_seen = nll + float(nll_R.double().sum()), tokens_seen + plan.tokens
    return Reconstruction(
        token_accuracy=hits / positions,
        exact_sentences=exact / sentences,
        perplexity=math.exp(min(nll / tokens_seen, 700.0)),
        sentences=sentences,
    )


def unigram_nll(train: DocumentSource, dev: DocumentSource, vocab_size: int) -> Float64:
    """NLL (nats) of each dev document under token frequencies of the train split, plus one each; with EOS."""
    counts_V = np.ones(vocab_size)
    for document in range(len(train.num_bytes_N)):
        counts_V += np.bincount(_tokens(train, document), minlength=vocab_size)
    num_documents = max(len(train.num_bytes_N), 1)
    total = counts_V.sum() + num_documents
    nll_V = -np.log(counts_V / total)
    end_nll = -math.log(num_documents / total)
    return np.array([nll_V[_tokens(dev, i)].sum() + end_nll for i in range(len(dev.num_bytes_N))])


def _tokens(documents: DocumentSource, document: int) -> NDArray[np.int32]:
    starts = documents.token_starts_N1
    return documents.tokens(int(starts[document]), int(starts[document + 1]))


def _batches(
    model: nn.Module, source: WindowSource, micro_batch_tokens: int
) -> Iterator[tuple[MicroBatch, TokenBatch | SentenceBatch]]:
    device = next(model.parameters()).device
    model.eval()
    for micro_batch in in_order(source, micro_batch_tokens):
        batch = micro_batch.batch().to(device)
        assert isinstance(batch, TokenBatch | SentenceBatch)
        yield micro_batch, batch


def _no_nll(documents: DocumentSource) -> Float64:
    """An array of NaN, so that a token in no window is detected."""
    return np.full(documents.token_starts_N1[-1] - documents.token_starts_N1[0], np.nan)


def _by_document(documents: DocumentSource, nll_T: Float64) -> Float64:
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
