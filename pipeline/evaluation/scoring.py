"""The negative log-likelihood (NLL, nats) of tokens, one micro-batch after the other.

What a micro-batch gives depends on it and the model alone. So any number of workers may share the micro-batches, and
sums over what they give, in the order of the documents, are the same to the last bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.evaluation.ablations import Ablation, OtherDocuments, score
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch, TokenBatch
from pipeline.stream.order import MicroBatch
from pipeline.stream.windows import Int64, SentenceWindows, TokenWindows

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class TokenScores:
    """The NLL of the tokens in the loss of a micro-batch."""

    token_T: Int64
    """Index of each token among those of all documents."""
    nll_T: Float64
    """NLL of each; where a sentence or a document ends, with that of its end."""


@dataclass(frozen=True)
class Reconstructed:
    """What the SentenceVAE reconstructs of a micro-batch, as sums."""

    positions: int
    """Tokens and EOS."""
    hits: int
    """Those that are the likeliest, given the true tokens before them."""
    sentences: int
    exact: int
    """Sentences all of whose positions are hits."""
    tokens: int
    """Document tokens."""
    nll: float


class Observer(Protocol):
    """Gets each micro-batch as it is scored."""

    def __call__(
        self, plan: MicroBatch, batch: TokenBatch | SentenceBatch, nll: Tensor, stop_nll_S: Tensor | None
    ) -> None:
        """`nll`: of targets, [D, L] of a token-level model; [R] of a sentence-level one, with its stop decisions."""


@torch.inference_mode()
def score_tokens(
    model: TokenLm,
    source: TokenWindows,
    micro_batches: Iterable[MicroBatch],
    observe: Observer | None = None,
) -> Iterator[TokenScores]:
    """The NLL of each token under a token-level model; that of a document's last token includes the EOS."""
    windows, first = source.windows, source.documents.token_starts_N1[0]
    for plan, batch in _batches(model, micro_batches):
        assert isinstance(batch, TokenBatch)
        nll = model.score(batch)
        if observe is not None:
            observe(plan, batch, nll, None)
        nll_DL = nll.double().cpu().numpy()
        indexes, values = [], []
        for window, row_L in zip(plan.windows, nll_DL, strict=True):
            start, end = windows.start_W[window] - first, windows.end_W[window] - first
            context = windows.context_W[window]
            own = row_L[context : end - start].copy()
            if windows.ends_document_W[window]:
                own[-1] += row_L[end - start]
            indexes.append(np.arange(start + context, end))
            values.append(own)
        yield TokenScores(np.concatenate(indexes), np.concatenate(values))


@torch.inference_mode()
def score_sentences(
    model: Sllm,
    source: SentenceWindows,
    micro_batches: Iterable[MicroBatch],
    ablation: Ablation = "none",
    others: OtherDocuments | None = None,
    observe: Observer | None = None,
) -> Iterator[TokenScores]:
    """The NLL of each token under a sentence-level model; that of a sentence's last token includes its EOS and the
    decision to go on or to stop.

    `others`, for the ablation "shuffled": `OtherDocuments(source)`.
    """
    windows, first = source.windows, source.documents.token_starts_N1[0]
    for plan, batch in _batches(model, micro_batches):
        assert isinstance(batch, SentenceBatch)
        other = None if others is None else others.batch(plan.windows).to(batch.tokens_T.device)
        nll_R, stop_nll_S, _ = score(model, batch, ablation, other)
        if observe is not None:
            observe(plan, batch, nll_R, stop_nll_S)
        decoded = batch.decoded
        paid_R, in_loss_S = nll_R.double().cpu().numpy(), decoded.in_loss_S.cpu().numpy()
        ends_S = np.cumsum(decoded.positions.lengths_S.cpu().numpy()) - 1
        own_T = np.delete(paid_R, ends_S)
        last_S = ends_S - 1 - np.arange(len(ends_S))
        own_T[last_S] += paid_R[ends_S] + stop_nll_S.double().cpu().numpy()
        scored_T = in_loss_S[decoded.sentences.sequence_T.cpu().numpy()]
        ends_W = source.token_end_W[plan.windows] - first
        spans = zip(ends_W - source.tokens_W[plan.windows], ends_W, strict=True)
        token_T = np.concatenate([np.arange(*span) for span in spans])
        sentences = (windows.end_W - windows.start_W - windows.context_W)[plan.windows].sum()
        assert (scored_T.sum(), in_loss_S.sum()) == (len(token_T), sentences), "each is counted once"
        yield TokenScores(token_T, own_T[scored_T])


@torch.inference_mode()
def reconstruct(model: SentenceVae, micro_batches: Iterable[MicroBatch]) -> Iterator[Reconstructed]:
    """How well the SentenceVAE reconstructs the sentences of each micro-batch."""
    for plan, batch in _batches(model, micro_batches):
        assert isinstance(batch, SentenceBatch)
        nll_R, hit_R = model.token_nll(model.encode(batch), batch)
        misses_S = torch.zeros(len(batch.decoded.stop_S), device=hit_R.device)
        misses_S.index_add_(0, batch.decoded.positions.sequence_T, (~hit_R).float())
        yield Reconstructed(
            positions=len(hit_R),
            hits=int(hit_R.sum()),
            sentences=len(misses_S),
            exact=int((misses_S == 0).sum()),
            tokens=plan.tokens,
            nll=float(nll_R.double().sum()),
        )


def _batches(
    model: nn.Module, micro_batches: Iterable[MicroBatch]
) -> Iterator[tuple[MicroBatch, TokenBatch | SentenceBatch]]:
    device = next(model.parameters()).device
    model.eval()
    for micro_batch in micro_batches:
        batch = micro_batch.batch().to(device)
        assert isinstance(batch, TokenBatch | SentenceBatch)
        yield micro_batch, batch
