"""Latents of another document are those of another document, whatever shares the micro-batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.evaluation.ablations import OtherDocuments, sentences_in, windows_of_other_documents
from pipeline.evaluation.likelihood import sllm_nll, sllm_nll_by_token
from pipeline.models.sllm import EncodedSentences
from pipeline.stream.windows import SentenceWindows, Windows
from tests.pipeline.conftest import FakeDocuments
from tests.pipeline.models.test_sllm import STATES

BOS, EOS = 1, 2
HEAD = {
    "output_latent_scale": 0.1,
    "encoder_embedding": "output",
    "encoder_layers": 0,
    "tie_word_embeddings": False,
}


def documents_of_one_word(sentences_N, tokens=3):
    """Document d has only token 3 + d, so that a latent shows its document."""
    return FakeDocuments([[[3 + d] * tokens] * sentences for d, sentences in enumerate(sentences_N)])


@pytest.mark.parametrize("context_attention_heads", [0, 2])
@pytest.mark.parametrize("micro_batch_tokens", [1, 12, 30, 100, 10_000])
def test_no_latent_is_of_the_tokens_own_document(
    sllm, monkeypatch, micro_batch_tokens, context_attention_heads
):
    sentences_N = [1, 40, 3, 40, 17, 2, 9, 33]
    documents = documents_of_one_word(sentences_N)
    model = sllm(context_sentences=8, context_attention_heads=context_attention_heads)
    size = model.vae.config.hidden_size
    given = []

    def encode(batch):
        """The document, in place of the latent."""
        return batch.tokens_T[batch.sentences.starts_S].double()[:, None].expand(-1, size)

    def decode(predicted_SH, known, batch):
        own_S = batch.tokens_T[batch.sentences.starts_S]
        known_DM = known.latents_SH[batch.sentences_DM][..., 0]
        for s in batch.decoded.sentence_S.tolist():
            window, index = batch.window_S[s], batch.index_S[s]
            given.append((int(own_S[s]), {int(predicted_SH[s, 0]), *known_DM[window, :index].int().tolist()}))
        return real_decode(predicted_SH, known, batch)

    real_decode = model.decode
    monkeypatch.setattr(model, "encode", lambda batch: EncodedSentences(encode(batch)))
    monkeypatch.setattr(model, "predict", lambda latents, batch: (latents, latents[:, 0] * 0))
    monkeypatch.setattr(model, "decode", decode)
    for context_rows in (None, 0):
        given.clear()
        source = SentenceWindows(documents, 8, BOS, EOS, 4, context_rows)
        sllm_nll(model, source, micro_batch_tokens, "shuffled")
        assert len(given) >= sum(sentences_N)
        assert sum(own in latents for own, latents in given) == 0
        assert all(
            min(latents) >= 3 for _, latents in given
        )  # each sentence has a latent, and none is made up
    given.clear()
    sllm_nll(model, source, micro_batch_tokens)
    assert all(latents == {own} for own, latents in given)


@pytest.mark.parametrize(
    "vae", [{}, {**HEAD, "context_attention_heads": 4}, {"block": "llama", "decoder_window": 9}, STATES]
)
def test_what_replaced_latents_cost_does_not_depend_on_the_micro_batch(sllm, random_documents, vae):
    model, documents = sllm(context_sentences=6, **vae), random_documents(9, sentences=25)
    source = SentenceWindows(documents, 6, BOS, EOS, 3, model.decoder_reach)
    expected = sllm_nll_by_token(model, source, 1, "shuffled")
    for micro_batch_tokens in (20, 100, 10_000):
        got = sllm_nll_by_token(model, source, micro_batch_tokens, "shuffled")
        assert got == pytest.approx(expected, rel=1e-6)
    assert not np.allclose(expected, sllm_nll_by_token(model, source, 100))


def test_latents_of_another_document_keep_their_own_positions(sllm):
    documents = documents_of_one_word([5, 2])
    source = SentenceWindows(documents, 8, BOS, EOS)
    own, other = source.batch(np.arange(2)), OtherDocuments(source).batch(np.arange(2))
    # No more sentences than its window has; of fewer, from the start again.
    assert torch.bincount(other.window_S).tolist() == [2, 2]
    assert sentences_in(other, own).tolist() == [0, 1, 0, 1, 0, 2, 3]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 8))
def test_each_document_with_sentences_takes_one_other(counts_N, size):
    windows = Windows.cover(np.cumsum([0, *counts_N]), size, size // 2)
    if np.count_nonzero(counts_N) < 2:
        with pytest.raises(ModelError, match="two documents"):
            windows_of_other_documents(windows)
        return
    other_W = windows_of_other_documents(windows)
    taken = {}
    for window, other in enumerate(other_W):
        taken.setdefault(windows.document_W[window], set()).add(windows.document_W[other])
    assert all(len(others) == 1 and own not in others for own, others in taken.items())
    assert len(set().union(*taken.values())) == len(taken)  # and each is taken once
