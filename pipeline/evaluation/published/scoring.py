"""Scores of the three models, sentence after sentence, under the rules that need a forward pass of their own."""

import dataclasses
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.likelihood import nll_by_document, token_lm_nll_by_token
from pipeline.evaluation.published.next_sentence import next_sentence_nll
from pipeline.evaluation.published.rules import Scores
from pipeline.models.cross_entropy import head_cross_entropy
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import DecodedSentences, SentenceBatch
from pipeline.stream.order import in_order
from pipeline.stream.windows import DocumentSource, SentenceWindows, TokenWindows

VAE_BATCH, LM_BATCH = 128, 8
"""Sentences, and documents, in a batch of the published evaluation."""


@torch.inference_mode()
def score_vae(model: SentenceVae, source: SentenceWindows, micro_batch_tokens: int) -> Scores:
    """NLL of each sentence of `source`, given its own latent."""
    model.eval()
    found = []
    for plan in in_order(source, micro_batch_tokens):
        batch = plan.batch()
        assert isinstance(batch, SentenceBatch)
        hidden_RH = model.decode_batch(model.encode(batch), batch)
        nll_R, _ = head_cross_entropy(model.head, hidden_RH, batch.decoded.targets_R)
        no_stop_S = torch.zeros(len(batch.decoded.stop_S))
        limit = model.config.max_sentence_tokens
        found.append(_part(nll_R, no_stop_S, batch.decoded, source, plan.windows, limit))
    scores = Scores(*_joined(found))
    return dataclasses.replace(scores, group_S=np.arange(len(scores.nll_S)) // VAE_BATCH)


@torch.inference_mode()
def score_sllm(
    model: Sllm, source: SentenceWindows, micro_batch_tokens: int, rules: Collection[str] = ()
) -> Scores:
    """NLL of each sentence of `source`, given those before it. Rules: `targets`, `future`, any."""
    model.eval()
    found = []
    for plan in in_order(source, micro_batch_tokens):
        batch = plan.batch()
        assert isinstance(batch, SentenceBatch)
        nll_R, stop_nll_S, targets = next_sentence_nll(model, batch, rules)
        limit = model.vae.config.max_sentence_tokens
        found.append(_part(nll_R, stop_nll_S, targets.decoded, source, plan.windows, limit))
    return Scores(*_joined(found))


def score_lm(
    model: TokenLm,
    documents: DocumentSource,
    context_tokens: int,
    micro_batch_tokens: int,
    bos_eos: tuple[int, int],
) -> Scores:
    """NLL of each document."""
    overlap = min(context_tokens // 2, context_tokens - 2)
    source = TokenWindows(documents, context_tokens, *bos_eos, overlap=overlap)
    model.eval()
    nll_N = nll_by_document(documents, token_lm_nll_by_token(model, source, micro_batch_tokens))
    count = len(nll_N)
    nothing = np.zeros(count)
    tokens_N = np.diff(documents.token_starts_N1)
    return Scores(nll_N, nothing, nothing, tokens_N, np.arange(count) // LM_BATCH, np.zeros(count, bool))


_Part = tuple[np.ndarray, ...]


def _part(
    nll_R: Tensor,
    stop_nll_S: Tensor,
    decoded: DecodedSentences,
    source: SentenceWindows,
    windows: np.ndarray,
    limit: int,
) -> _Part:
    """The columns of `Scores` of a micro-batch, and the sentences' indexes in their windows."""
    sentence_R, offset_R = decoded.positions.sequence_T, decoded.positions.positions_T
    count = len(decoded.stop_S)
    wide_R = nll_R.double()
    zeros_S = wide_R.new_zeros(count)
    certain_R = wide_R * (offset_R == limit)
    window_S = windows[decoded.window_S.numpy()]
    index_S = decoded.index_S.numpy()
    is_first_S = (index_S == 0) & (
        source.windows.start_W[window_S]
        == source.documents.sentence_starts_N1[source.windows.document_W[window_S]]
    )
    kept_S = decoded.in_loss_S.numpy()
    columns = (
        zeros_S.index_add(0, sentence_R, wide_R).numpy(),
        zeros_S.index_add(0, sentence_R, certain_R).numpy(),
        stop_nll_S.double().numpy(),
        decoded.sentences.lengths_S.numpy(),
        window_S,
        is_first_S,
        index_S,
    )
    return tuple(column[kept_S] for column in columns)


def _joined(parts: list[_Part]) -> _Part:
    """The columns of all micro-batches, in the order of the documents."""
    *columns, index_S = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((index_S, columns[4]))
    return tuple(column[order] for column in columns)
