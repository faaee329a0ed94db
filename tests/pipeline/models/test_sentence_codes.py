"""Discrete codes of the next sentence: nearest centres, an auxiliary loss, and no likelihood that sees them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.sentence_codes import SentenceCodes
from pipeline.models.sllm import SllmModelConfig
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import SentenceWindows

BOOKS, ENTRIES, LATENT, TRUNK = 4, 8, 32, 24


@pytest.fixture
def codes():
    torch.manual_seed(0)
    config = SllmModelConfig(code_books=BOOKS, code_entries=ENTRIES, code_loss_weight=0.5)
    found = SentenceCodes(config, TRUNK, LATENT).double()
    torch.nn.init.normal_(found.centres_BEK)
    return found


@pytest.fixture
def given():
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randn(9, size, generator=rng, dtype=torch.float64) for size in (TRUNK, LATENT))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    sentences = np.array([5, 1, 7])
    lengths = rng.integers(1, 9, sentences.sum())
    return SentenceBatch.pack(rng.integers(3, 50, lengths.sum()), lengths, sentences, bos_id=1, eos_id=2)


def test_loss_is_that_of_the_nearest_centres_and_of_a_mixture(codes, given):
    hidden_SH, latents_SH = given
    width = LATENT // BOOKS
    cross_entropy = mixture = 0.0
    for hidden_H, latent_H in zip(hidden_SH, latents_SH, strict=True):
        logits_BE = codes.head(hidden_H).view(BOOKS, ENTRIES)
        for book in range(BOOKS):
            part_K = latent_H[book * width : (book + 1) * width]
            distances_E = (codes.centres_BEK[book] - part_K).square().sum(1)
            cross_entropy -= F.log_softmax(logits_BE[book], -1)[distances_E.argmin()]
            mixture -= (-0.5 * distances_E).exp().sum().log()
    found = codes(hidden_SH, latents_SH)
    torch.testing.assert_close(found.nll, cross_entropy.detach())
    torch.testing.assert_close(found.loss, 0.5 * (cross_entropy + mixture))


def test_expected_latent_is_the_mean_of_the_centres(codes, given):
    hidden_H = given[0][0]
    probabilities_BE = codes.head(hidden_H).view(BOOKS, ENTRIES).softmax(-1)
    means = [p_E @ centres_EK for p_E, centres_EK in zip(probabilities_BE, codes.centres_BEK, strict=True)]
    torch.testing.assert_close(codes(hidden_H[None]).expected_SH[0], torch.cat(means))


def test_latents_get_no_gradient_and_centres_none_from_the_decoder(codes, given):
    hidden_SH, latents_SH = (each.requires_grad_() for each in given)
    codes(hidden_SH, latents_SH).loss.backward()
    assert latents_SH.grad is None
    assert hidden_SH.grad.any() and codes.centres_BEK.grad.any(-1).all()
    codes.zero_grad()
    codes(hidden_SH).expected_SH.sum().backward()
    assert codes.centres_BEK.grad is None and codes.head.weight.grad.any()


def test_centres_move_to_latents(codes):
    """The error of quantisation of clustered latents falls to less than half of that of the random centres."""
    rng = torch.Generator().manual_seed(2)
    clusters_EBK = 3 * torch.randn(ENTRIES, BOOKS, LATENT // BOOKS, generator=rng, dtype=torch.float64)

    def error():
        return torch.cdist(clusters_EBK.transpose(0, 1), codes.centres_BEK.detach()).min(-1).values.mean()

    before = error()
    optimizer = torch.optim.Adam(codes.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        codes(torch.zeros(ENTRIES, TRUNK, dtype=torch.float64), clusters_EBK.flatten(1)).loss.backward()
        optimizer.step()
    assert error() < 0.5 * before


def test_the_objective_has_the_code_loss_and_the_likelihood_does_not(sllm, batch):
    model, without = sllm(code_books=4), sllm()
    assert without.codes is None
    sums = model(batch)
    latents_SH = model.vae.encode(batch)
    codes = model.codes(model.trunk_output(latents_SH, batch)[0], latents_SH)
    torch.testing.assert_close(sums["code_nll"], codes.nll)
    torch.testing.assert_close(sums["objective"], sums["nll"] + codes.loss)
    missing, unexpected = without.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(name.startswith("codes.") for name in unexpected)
    assert "code_nll" not in without(batch)
    assert without(batch)["nll"] != sums["nll"], "the decoder gets the expected code"
    for each in (model, without):
        each.config.trunk_prediction = False
    torch.testing.assert_close(without(batch)["nll"], model(batch)["nll"])


def test_context_only_sentences_have_no_code_loss(sllm, random_documents):
    model = sllm(code_books=4, context_sentences=8)
    documents = random_documents(4, sentences=20)
    source = SentenceWindows(documents, 8, 1, 2, overlap=6)
    batch = source.batch(np.arange(len(source.windows)))
    latents_SH = model.vae.encode(batch)
    learned_S = batch.decoded.sentence_S[batch.decoded.in_loss_S]
    assert len(learned_S) == len(documents.sentence_lengths) < len(latents_SH)
    before_SH = model.trunk_output(latents_SH, batch)[0]
    expected = model.codes(before_SH[learned_S], latents_SH[learned_S]).nll
    torch.testing.assert_close(model(batch)["code_nll"], expected)


def test_books_that_do_not_divide_the_latent_are_refused(sllm):
    with pytest.raises(ModelError, match=r"sllm\.code_books \(5\) must divide"):
        sllm(code_books=5)
