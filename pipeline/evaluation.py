"""Honest figures: exact likelihoods of whole documents, for token-level and sentence-level models alike.

The negative log-likelihood of a document is that of all its tokens, each sentence's end mark, and each decision to go
on or to stop (for a token-level model: all its tokens and the end mark). Bits per byte = NLL / (ln 2 x UTF-8 bytes);
perplexity is per document token, the marks paid for in the sum and not counted in the mean. Sums over documents are
divided once: never a mean of batch means. Documents longer than a model's context are covered by windows that overlap
by half, each unit scored once, so no model is charged for a cold start in the middle of a document.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.batches import (
    DocumentSource,
    SentenceBatch,
    SentenceWindows,
    TokenBatch,
    TokenWindows,
    WindowSource,
)
from pipeline.lm import TokenLm
from pipeline.sllm import Ablation, Sllm
from pipeline.stream.order import in_order
from pipeline.stream.windows import Int64
from pipeline.vae import SentenceVae

Float64 = NDArray[np.float64]
Progress = Callable[[int], None]
"""Told how many document tokens were scored since the last call."""


@dataclass(frozen=True)
class Likelihood:
    """How probable a model finds documents."""

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
        return self.nll / (math.log(2) * self.num_bytes)

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
    """What the SentenceVAE gets back of sentences from their latents."""

    token_accuracy: float
    """Share of tokens and end marks that are likeliest, given the true tokens before them."""
    exact_sentences: float
    """Share of sentences that greedy decoding gets back whole (then each token was the likeliest in turn)."""
    perplexity: float
    """exp(NLL / document tokens) of sentences given their latents; end marks paid for, not counted."""
    sentences: int

    def as_dict(self) -> dict[str, float]:
        """All figures, for tables and JSON."""
        return dict(vars(self))


def likelihood(documents: DocumentSource, nll_N: Float64) -> Likelihood:
    """Sum up the NLL of each document."""
    assert np.isfinite(nll_N).all()
    return Likelihood(
        nll=float(nll_N.sum()),
        tokens=int(documents.token_starts_N1[-1] - documents.token_starts_N1[0]),
        num_bytes=int(documents.num_bytes_N.sum()),
        documents=len(nll_N),
    )


@torch.inference_mode()
def token_lm_nll(
    model: TokenLm, source: TokenWindows, micro_batch_tokens: int, progress: Progress = lambda tokens: None
) -> Float64:
    """NLL (nats) of each document under a token-level model [N]."""
    nll_N = np.zeros(len(source.documents.num_bytes_N))
    for batch, tokens in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, TokenBatch)
        _add(nll_N, batch.document_D, model.score(batch).double().sum(1))
        progress(tokens)
    return nll_N


@torch.inference_mode()
def sllm_nll(
    model: Sllm,
    source: SentenceWindows,
    micro_batch_tokens: int,
    ablation: Ablation = "none",
    progress: Progress = lambda tokens: None,
) -> Float64:
    """NLL (nats) of each document under a sentence-level model [N]."""
    nll_N = np.zeros(len(source.documents.num_bytes_N))
    for batch, tokens in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, SentenceBatch)
        nll_R, stop_nll_S, _ = model.score(batch, ablation)
        nll_S = stop_nll_S.double().index_add(0, batch.decoder_rows.sequence_T, nll_R.double())
        _add(nll_N, batch.document_D[batch.window_S], nll_S * batch.scored_S)
        progress(tokens)
    return nll_N


@torch.inference_mode()
def reconstruction(model: SentenceVae, source: SentenceWindows, micro_batch_tokens: int) -> Reconstruction:
    """How much of the sentences their latents hold."""
    hits = rows = exact = sentences = tokens_seen = 0
    nll = 0.0
    for batch, tokens in _batches(model, source, micro_batch_tokens):
        assert isinstance(batch, SentenceBatch)
        nll_R, hit_R = model.token_nll(model.encode(batch), batch)
        misses_S = torch.zeros(len(batch.stop_S), device=hit_R.device)
        misses_S.index_add_(0, batch.decoder_rows.sequence_T, (~hit_R).float())
        hits, rows = hits + int(hit_R.sum()), rows + len(hit_R)
        exact, sentences = exact + int((misses_S == 0).sum()), sentences + len(misses_S)
        nll, tokens_seen = nll + float(nll_R.double().sum()), tokens_seen + tokens
    return Reconstruction(
        token_accuracy=hits / rows,
        exact_sentences=exact / sentences,
        perplexity=math.exp(min(nll / tokens_seen, 700.0)),
        sentences=sentences,
    )


def unigram_nll(train: DocumentSource, dev: DocumentSource, vocab_size: int) -> Float64:
    """NLL (nats) of each dev document under token frequencies of the train split, plus one each; end marks too."""
    counts_V = np.ones(vocab_size)
    for document in range(len(train.num_bytes_N)):
        counts_V += np.bincount(_tokens(train, document), minlength=vocab_size)
    num_documents = len(train.num_bytes_N)
    total = counts_V.sum() + num_documents
    nll_V = -np.log(counts_V / total)
    end_nll = -math.log(max(num_documents, 1) / total)
    return np.array([nll_V[_tokens(dev, i)].sum() + end_nll for i in range(len(dev.num_bytes_N))])


def _tokens(documents: DocumentSource, document: int) -> NDArray[np.int32]:
    starts = documents.token_starts_N1
    return documents.tokens(int(starts[document]), int(starts[document + 1]))


def _batches(
    model: nn.Module, source: WindowSource, micro_batch_tokens: int
) -> Iterator[tuple[TokenBatch | SentenceBatch, int]]:
    device = next(model.parameters()).device
    model.eval()
    for micro_batch in in_order(source, micro_batch_tokens):
        batch = micro_batch.batch().to(device)
        assert isinstance(batch, TokenBatch | SentenceBatch)
        yield batch, micro_batch.tokens


def _add(nll_N: Float64, document: Tensor, nll: Tensor) -> None:
    np.add.at(nll_N, document.cpu().numpy(), nll.cpu().numpy())


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
