"""The continuous cache against plain arithmetic, for both kinds of model."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.evaluation.controls.continuous_cache import (
    SHARES,
    SHARPNESS,
    ScoredPositions,
    fitted_nll,
    scored_positions,
)
from pipeline.evaluation.likelihood import (
    sllm_nll,
    sllm_nll_by_token,
    token_lm_nll,
    token_lm_nll_by_token,
)
from pipeline.models.token_lm import TokenLm
from pipeline.stream.windows import SentenceWindows, TokenWindows

BOS, EOS = 1, 2


@pytest.fixture
def token_lm(trunk_config):
    torch.manual_seed(0)
    return TokenLm(AutoModelForCausalLM.from_config(trunk_config("llama"))).eval()


def test_the_positions_hold_the_likelihood_of_both_kinds_of_model(token_lm, sllm, random_documents):
    documents = random_documents(4, sentences=9)
    tokens = TokenWindows(documents, 13, BOS, EOS, 6)
    nll_T, scored = scored_positions(token_lm, tokens, 40)
    assert (nll_T == token_lm_nll_by_token(token_lm, tokens, 40)).all()
    sums = np.bincount(scored.document_R, scored.nll_R, 4) + scored.rest_N
    assert sums == pytest.approx(token_lm_nll(token_lm, tokens, 40), rel=1e-6)
    expected = [t for document in documents.documents for s in [*document, [EOS]] for t in s]
    assert scored.target_R.tolist() == expected
    assert not scored.rest_N.any()

    model = sllm(context_sentences=4)
    sentences = SentenceWindows(documents, 4, BOS, EOS, 2, model.decoder_reach)
    nll_T, scored = scored_positions(model, sentences, 40)
    assert (nll_T == sllm_nll_by_token(model, sentences, 40)).all()
    sums = np.bincount(scored.document_R, scored.nll_R, 4) + scored.rest_N
    assert sums == pytest.approx(sllm_nll(model, sentences, 40), rel=1e-6)
    expected = [t for document in documents.documents for s in document for t in [*s, EOS]]
    assert scored.target_R.tolist() == expected


def by_hand(scored, documents, size, sharpness, share):
    """NLL of these documents with fixed numbers."""
    total, scale = 0.0, (scored.hidden_RH.astype(np.float64) ** 2).sum(1).mean()
    for document in documents:
        (places,) = np.nonzero(scored.document_R == document)
        for i, place in enumerate(places):
            p = math.exp(-scored.nll_R[place])
            earlier = places[max(i - size, 0) : i]
            if len(earlier):
                dots = scored.hidden_RH[earlier] @ scored.hidden_RH[place] / scale * sharpness
                weights = np.exp(dots - dots.max()) / np.exp(dots - dots.max()).sum()
                mixed = (1 - share) * p + share * weights[
                    scored.target_R[earlier] == scored.target_R[place]
                ].sum()
                p = p if scored.is_certain_R[place] else mixed
            total -= math.log(p)
    return total


def positions(rng, repeats):
    cycles = [rng.integers(3, 9, 5) if repeats else rng.integers(0, 500, 24) for _ in range(4)]
    certain = rng.random(96) < 0.1
    return ScoredPositions(
        document_R=np.repeat(np.arange(4), 24),
        target_R=np.concatenate([np.resize(cycle, 24) for cycle in cycles]),
        nll_R=np.where(certain, 0.0, rng.random(96) + 3),
        is_certain_R=certain,
        hidden_RH=rng.normal(size=(96, 8)).astype(np.float32),
        rest_N=np.arange(4.0),
    )


def test_it_is_fitted_on_one_half_and_used_on_the_other():
    scored = positions(np.random.default_rng(0), repeats=True)
    got = fitted_nll(scored, 16)
    for fold in (0, 1):
        own, others = [fold, fold + 2], [1 - fold, 3 - fold]
        pairs = [(sharpness, share) for sharpness in SHARPNESS for share in SHARES]
        best = min(pairs, key=lambda pair: by_hand(scored, others, 16, *pair))
        assert got[own].sum() - scored.rest_N[own].sum() == pytest.approx(
            by_hand(scored, own, 16, *best), rel=1e-5
        )
    assert got.sum() < 0.8 * scored.nll_R.sum()  # repeated text is what a cache is for


def test_where_nothing_repeats_it_changes_nothing():
    scored = positions(np.random.default_rng(1), repeats=False)
    assert fitted_nll(scored, 16).sum() == pytest.approx(scored.nll_R.sum() + scored.rest_N.sum(), rel=2e-2)


def test_one_document_has_nothing_to_be_fitted_on(token_lm, random_documents):
    source = TokenWindows(random_documents(1), 64, BOS, EOS)
    assert fitted_nll(scored_positions(token_lm, source, 100)[1], 32) == pytest.approx(
        token_lm_nll(token_lm, source, 100), rel=1e-6
    )
