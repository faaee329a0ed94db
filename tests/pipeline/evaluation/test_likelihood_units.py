"""The likelihood counts every token and EOS once, in every path; sentences no model can generate are refused."""

import math

import numpy as np
import pytest
import torch

from pipeline.config import GenerateConfig
from pipeline.errors import ModelError
from pipeline.evaluation.likelihood import (
    bits_per_byte_by_position,
    covering_edges,
    likelihood,
    longest_sentence,
    reconstruction,
    select_documents,
    sllm_nll,
    sllm_nll_by_token,
    token_counts,
    token_lm_nll_by_token,
    unigram_nll,
)
from pipeline.generation.generate import generate
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import SentenceWindows, TokenWindows
from tests.pipeline.conftest import FakeDocuments
from tests.pipeline.models.test_sllm import HEAD, STATES

BOS, EOS, VOCAB = 1, 2, 50
DESIGNS = {
    "paper": {},
    "prefix": {"conditioning": "prefix"},
    "window": {"block": "llama", "decoder_window": 9},
    "context-attention": {**HEAD, "context_attention_heads": 4},
    "window-context-attention": {"context_attention_heads": 1, "block": "llama", "decoder_window": 9},
    "state-attention": STATES,
}
ABLATIONS = ["none", "zeroed", "shuffled", "oracle"]


@pytest.fixture
def documents():
    """Sentences of 1 to 12 tokens, 12 among them: the longest that the models generate."""
    rng = np.random.default_rng(0)
    lengths = [[12, 1, 12, 5], [3], [12], [2, 12, 7, 1, 9, 12, 4]]
    return FakeDocuments([[rng.integers(3, VOCAB, n).tolist() for n in document] for document in lengths])


def uniform(model):
    """Makes each token, EOS and stop as likely as any other."""
    with torch.no_grad():
        model.vae.head.weight = torch.nn.Parameter(torch.zeros_like(model.vae.head.weight))
        model.stop_head.weight.zero_()
        model.stop_head.bias.zero_()
    return model


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_under_a_uniform_model_each_unit_costs_the_same(sllm, documents, design, ablation):
    """NLL = ln V per token and per EOS (except the certain one after 12 tokens), ln 2 per decision to stop."""
    options = {
        **design,
        "encoder_embedding": "input",
        "tie_word_embeddings": False,
        "output_latent_scale": 0.5 if design is STATES else 0.0,
    }
    model = uniform(sllm(context_sentences=4, **options))
    for micro_batch_tokens in (1, 20, 1000):
        source = SentenceWindows(documents, 4, BOS, EOS, 2, model.decoder_reach)
        nll_T = sllm_nll_by_token(model, source, micro_batch_tokens, ablation)
        expected = []
        for document in documents.documents:
            for sentence in document:
                end = math.log(2) + (math.log(VOCAB) if len(sentence) < 12 else 0.0)
                expected += [math.log(VOCAB)] * (len(sentence) - 1) + [math.log(VOCAB) + end]
        assert nll_T == pytest.approx(expected, rel=1e-9)
        assert (nll_T > 0).all()
    figures = reconstruction(model.vae, SentenceWindows(documents, 4, BOS, EOS), 20)
    eos_tokens = sum(length < 12 for length in documents.sentence_lengths)
    units = len(documents.flat) + eos_tokens
    assert math.log(figures.perplexity) == pytest.approx(
        units * math.log(VOCAB) / len(documents.flat), rel=1e-6
    )


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_the_next_token_is_a_distribution(sllm, documents, design):
    """After any context: over all next tokens and EOS, probabilities sum to 1."""
    model = sllm(**design).requires_grad_(False)
    document = documents.documents[0]
    for position in (0, 4, 11, 12):
        total = 0.0
        for token in range(VOCAB):
            # One sentence more, up to `position` tokens of it and this one.
            sentence = [*document[2][:position], *([] if token == EOS else [token])]
            if len(sentence) > 12 or not sentence:
                continue
            batch = SentenceBatch.pack(
                [t for s in [*document[:2], sentence] for t in s],
                [*map(len, document[:2]), len(sentence)], [3], bos_id=BOS, eos_id=EOS,
            )  # fmt: skip
            nll_R, _, _ = model.score(batch)
            index = batch.decoded.positions.starts_S[2] + position
            total += math.exp(-nll_R[index])
        # EOS before the first token has a probability too, which no sentence takes.
        assert total == pytest.approx(1.0, rel=1e-9) or (position == 0 and 0.5 < total < 1)


def with_one_longer(documents):
    longer = [*documents.documents, [[5, 6], [7] * 13, [8]]]
    return FakeDocuments(longer)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_a_sentence_that_the_model_cannot_generate_is_refused_in_every_path(
    sllm, documents, design, ablation
):
    model, longer = sllm(**design), with_one_longer(documents)
    source = SentenceWindows(longer, 16, BOS, EOS, 8, model.decoder_reach)
    batch = source.batch(np.arange(len(source.windows)))
    message = r"a sentence of 13 tokens .* after 12: prepare the shards with prepare.max_sentence_tokens=12"
    for path in (
        lambda: sllm_nll(model, source, 1000, ablation),
        lambda: sllm_nll_by_token(model, source, 1, ablation),
        lambda: reconstruction(model.vae, source, 1000),
        lambda: model(batch),
        lambda: model.train().vae(batch),
    ):
        with pytest.raises(ModelError, match=message):
            path()
    assert longest_sentence(longer) == 13 and longest_sentence(select_documents(longer, 4)) == 12


def test_nor_is_one_generated_or_taken_as_a_prompt(sllm):
    with pytest.raises(ModelError, match=r"max_sentence_tokens=13: .* after 12 tokens"):
        list(generate(sllm(), [], GenerateConfig(max_sentence_tokens=13)))
    with pytest.raises(ModelError, match="the prompt: a sentence of 13 tokens"):
        list(generate(sllm(), [[3] * 13], GenerateConfig()))


def test_each_token_is_in_one_bin_of_positions(random_documents):
    documents = random_documents(7, sentences=8)
    nll_T, bytes_V = np.random.default_rng(0).random(len(documents.flat)), np.full(VOCAB, 3)
    for edges in ([0, 8], [4, 8, 16], [0, 1000], [0, 2, 3]):
        covering = covering_edges(documents, edges)
        curve = bits_per_byte_by_position(documents, nll_T, bytes_V, covering)
        positions = np.concatenate([np.arange(n) for n in np.diff(documents.token_starts_N1)])
        counts, _ = np.histogram(positions, covering)
        assert counts.sum() == len(nll_T)
        total = np.nansum(np.array(curve) * counts) * 3 * math.log(2)
        assert total == pytest.approx(nll_T.sum())
        assert set(edges) <= set(covering)
    assert covering_edges(documents, [0, 1000]) == [0, 1000]


def test_a_model_that_gives_no_likelihood_is_named_and_not_averaged(random_documents):
    documents = random_documents(3)
    for broken in (math.nan, math.inf):
        with pytest.raises(ModelError, match=r"1 of 3 documents no likelihood .* document 1"):
            likelihood(documents, np.array([1.0, broken, 2.0]))


def test_a_token_that_no_window_predicts_is_not_free(sllm, random_documents, monkeypatch):
    documents = random_documents(4, sentences=20)
    model = sllm(context_sentences=4)
    source = SentenceWindows(documents, 4, BOS, EOS)
    monkeypatch.setattr("pipeline.evaluation.likelihood.in_order", lambda *_: iter(list(in_order(*_))[:-1]))
    from pipeline.stream.order import in_order

    with pytest.raises(AssertionError, match="counted once"):
        sllm_nll(model, source, 10)

    class Half(TokenLm):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def score(self, batch):
            return torch.ones(batch.targets_DL.shape)

    with pytest.raises(AssertionError, match="counted once"):
        token_lm_nll_by_token(Half(), TokenWindows(documents, 16, BOS, EOS, 8), 10)


def test_unigrams_without_training_documents_are_a_distribution(random_documents):
    none, dev = FakeDocuments([]), random_documents(1)
    expected = (len(dev.flat) + 1) * math.log(VOCAB + 1)
    assert unigram_nll(token_counts(none, VOCAB), 0, dev) == pytest.approx([expected])
