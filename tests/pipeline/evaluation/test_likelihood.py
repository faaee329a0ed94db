"""Likelihoods of whole documents, counted by hand; reconstruction against real greedy decoding."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.evaluation.likelihood import (
    Likelihood,
    likelihood,
    reconstruction,
    select_documents,
    sllm_nll,
    token_counts,
    token_lm_nll,
    unigram_nll,
)
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.models.token_lm import TokenLm
from pipeline.stream.windows import SentenceWindows, TokenWindows

BOS, EOS = 1, 2


@pytest.fixture
def token_lm(trunk_config):
    torch.manual_seed(0)
    return TokenLm(AutoModelForCausalLM.from_config(trunk_config("llama"))).double().eval()


def by_hand(token_lm, tokens):
    """Log-probabilities of the tokens and EOS, one prefix at a time."""
    total = 0.0
    with torch.no_grad():
        for position, target in enumerate([*tokens, EOS]):
            logits = token_lm.model(input_ids=torch.tensor([[BOS, *tokens[:position]]])).logits[0, -1]
            total -= logits.log_softmax(-1)[target].item()
    return total


def test_token_level_nll_is_that_of_all_tokens_and_eos(token_lm, random_documents):
    documents = random_documents(4, sentences=3)
    expected = [by_hand(token_lm, [t for s in document for t in s]) for document in documents.documents]
    source = TokenWindows(documents, 128, BOS, EOS)
    for micro_batch_tokens in (1, 30, 10_000):
        assert token_lm_nll(token_lm, source, micro_batch_tokens) == pytest.approx(expected, rel=1e-10)


def test_windows_of_a_long_document_give_each_token_at_least_half_a_context(token_lm, random_documents):
    documents = random_documents(3, sentences=12)
    size, overlap = 16, 8
    source = TokenWindows(documents, size + 1, BOS, EOS, overlap)
    got = token_lm_nll(token_lm, source, 100)
    for document, nll in zip(documents.documents, got, strict=True):
        tokens = [token for sentence in document for token in sentence]
        expected, predicted, start = 0.0, 0, 0
        while predicted < len(tokens):
            end = min(start + size, len(tokens))
            window = tokens[start:end]
            with torch.no_grad():
                logits = token_lm.model(input_ids=torch.tensor([[BOS, *window]])).logits[0]
            targets = [*window, EOS] if end == len(tokens) else window
            for position in range(predicted - start, len(targets)):
                expected -= logits[position].log_softmax(-1)[targets[position]].item()
            predicted, start = end, start + size - overlap
        assert nll == pytest.approx(expected, rel=1e-10)


def test_reconstruction_counts_what_greedy_decoding_gets_back(sllm, random_documents):
    vae = sllm().vae
    documents = random_documents(30, tokens=3)
    with torch.no_grad():  # an untrained model gets nothing back; one that always ends after one token, some
        vae.head.weight = torch.nn.Parameter(vae.head.weight.clone())
        vae.head.weight[EOS] *= 6
    source = SentenceWindows(documents, 16, BOS, EOS)
    figures = reconstruction(vae, source, 64)
    batch = source.batch(np.arange(len(source.windows)))
    sentences = [s for document in documents.documents for s in document]
    decoder = SentenceDecoder(vae, len(sentences), 12)
    with torch.inference_mode():
        decoder.start(range(len(sentences)), vae.encode(batch), [12] * len(sentences))
        decoded = decoder.generate(Sampler())
    exact = sum(decoded[i] == sentence for i, sentence in enumerate(sentences))
    assert figures.sentences == len(sentences)
    # Decoding may not end a sentence before its first token; teacher forcing has no such rule.
    assert figures.exact_sentences * len(sentences) <= exact
    assert 0 <= figures.token_accuracy <= 1


def test_unigram_is_a_distribution_over_tokens_and_the_end(random_documents):
    train, dev = random_documents(5, seed=1), random_documents(3, seed=2)
    nll_N = unigram_nll(token_counts(train, 50), 5, dev)
    counts = np.bincount(train.flat, minlength=50) + 1.0
    total = counts.sum() + 5
    assert (counts.sum() + 5) / total == 1
    first = [t for s in dev.documents[0] for t in s]
    assert nll_N[0] == pytest.approx(-sum(math.log(counts[t] / total) for t in first) - math.log(5 / total))


def test_bits_per_byte_and_perplexity_are_of_sums(random_documents):
    documents = random_documents(3)
    figures = likelihood(documents, np.array([100.0, 200.0, 300.0]))
    assert figures.bits_per_byte == pytest.approx(600 / math.log(2) / documents.num_bytes_N.sum())
    assert figures.perplexity == pytest.approx(math.exp(600 / len(documents.flat)))
    assert Likelihood(math.log(2) * 8, 1, 8, 1).bits_per_byte == pytest.approx(1.0)


def test_selected_documents_are_scored_as_among_all(sllm, random_documents):
    model, documents = sllm(), random_documents(6)
    few = select_documents(documents, 2)
    all_N = sllm_nll(model, SentenceWindows(documents, 16, BOS, EOS), 100)
    assert sllm_nll(model, SentenceWindows(few, 16, BOS, EOS), 100) == pytest.approx(all_N[:2])
    assert likelihood(few, all_N[:2]).tokens == sum(map(len, documents.documents[0] + documents.documents[1]))


def test_tokens_predicted_after_context_are_each_in_the_loss_once(token_lm, random_documents):
    documents = random_documents(5, sentences=12)
    source = TokenWindows(documents, 17, BOS, EOS, overlap=10)
    assert source.tokens_W.sum() == documents.token_starts_N1[-1]
    sums = token_lm(source.batch(np.arange(len(source.tokens_W))))
    assert sums["nll"].item() == pytest.approx(token_lm_nll(token_lm, source, 50).sum(), rel=1e-10)
