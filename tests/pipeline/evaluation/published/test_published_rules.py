"""The published rules: none gives the exact likelihood, all give what the published code computes."""

import math
from itertools import chain

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pipeline.errors import ModelError
from pipeline.evaluation.likelihood import reconstruction, sllm_nll, token_lm_nll
from pipeline.evaluation.published.next_sentence import PAD_ID, NextSentenceObjective, check_design
from pipeline.evaluation.published.rules import FORWARD_RULES, RULES, VAE_RULES, Scores, perplexity
from pipeline.evaluation.published.scoring import score_lm, score_sllm, score_vae
from pipeline.evaluation.published.text import as_read, first_tokens, sentences_of
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import SentenceWindows, TokenWindows
from pipeline.tokenization.tokenizer import Tokenizer
from tests.pipeline.conftest import FakeDocuments
from tests.pipeline.models.test_sllm import HEAD

BOS, EOS = 1, 2
PADDED = 16  # positions of a padded sentence in the implementation by hand


def windows(documents, size=6):
    return SentenceWindows(documents, size, BOS, EOS, size // 2, 0)


def passages(documents, size):
    return SentenceWindows(documents, size, BOS, EOS)


def test_without_rules_perplexities_are_those_of_exact_likelihoods(sllm, random_documents, trunk_config):
    documents = random_documents(5)
    tokens = len(documents.flat)
    model = sllm("opt", context_sentences=6)
    exact = sllm_nll(model, windows(documents), 50).sum()
    for micro_batch_tokens in (1, 60, 5000):
        scores = score_sllm(model, windows(documents), micro_batch_tokens)
        assert perplexity(scores) == pytest.approx(math.exp(exact / tokens), rel=1e-9)
    source = SentenceWindows(documents, 6, BOS, EOS)
    assert perplexity(score_vae(model.vae, source, 60)) == pytest.approx(
        reconstruction(model.vae, source, 60).perplexity, rel=1e-9
    )
    lm = TokenLm(AutoModelForCausalLM.from_config(trunk_config("opt"))).double().eval()
    nll = token_lm_nll(lm, TokenWindows(documents, 16, BOS, EOS, 8), 50).sum()
    assert perplexity(score_lm(lm, documents, 16, 50, (BOS, EOS))) == pytest.approx(
        math.exp(nll / tokens), rel=1e-9
    )


def test_with_all_rules_it_is_what_the_published_code_computes(sllm, random_documents):
    """Passage after passage over padded arrays, as the code does it."""
    documents, size = random_documents(6, sentences=5), 8
    model = sllm("opt", context_sentences=size)
    losses = [by_hand(model, document, size) for document in documents.documents if len(document) > 1]
    scores = score_sllm(model, passages(documents, size), 60, ("targets", "future"))
    # Of the text all is read here: `text` has a test of its own.
    assert perplexity(scores, RULES) == pytest.approx(math.exp(np.mean(losses)), rel=1e-9)


@torch.no_grad()
def by_hand(model, document, size):
    """Mean loss of a passage: arrays of padded sentences with masks; the trunk sees all of `size` sentences."""
    ids = torch.full((len(document), PADDED), PAD_ID)
    mask = torch.zeros(len(document), PADDED, dtype=torch.int64)
    for row, sentence in enumerate(document):
        ids[row, : len(sentence) + 1] = torch.tensor([BOS, *sentence])
        mask[row, : len(sentence) + 1] = 1
    packed = SentenceBatch.pack(
        list(chain.from_iterable(document)),
        [len(s) for s in document],
        [len(document)],
        bos_id=BOS,
        eos_id=EOS,
    )
    latents = model.vae.encode(packed)
    inputs = torch.cat(
        [model.start_H[None], latents, latents.new_zeros(size - len(document), latents.shape[1])]
    )
    states = (inputs + model.trunk.decoder.embed_positions.weight[2 : 2 + size + 1])[None]
    for layer in model.trunk.decoder.layers:
        nothing_hidden = torch.zeros(1, 1, size + 1, size + 1, dtype=states.dtype)
        states = layer(states, attention_mask=nothing_hidden)
        states = states[0] if isinstance(states, tuple) else states
    predicted = model.trunk.decoder.final_layer_norm(states)[0]
    logits, targets = [], []
    input_ids, attention_mask = ids[1:], mask[:-1]
    target_ids = torch.cat([input_ids, torch.full((len(input_ids), 1), PAD_ID)], 1)
    target_ids.scatter_(1, attention_mask.sum(1, keepdim=True), EOS)
    for row, positions in enumerate(attention_mask.sum(1).tolist()):
        inside = SentenceBatch.pack(
            input_ids[row, 1:positions] if positions > 1 else [], [positions - 1], [1], bos_id=BOS, eos_id=EOS
        )
        hidden = model.vae.decode_batch(predicted[row + 1][None], inside)
        logits.append(model.vae.head(hidden))
        targets.append(target_ids[row, 1:][attention_mask[row].bool()])
    return F.cross_entropy(torch.cat(logits), torch.cat(targets)).item()


def test_a_later_sentence_changes_an_earlier_score_under_the_rule_future_alone(sllm):
    model = sllm("opt", context_sentences=4)
    one, other = (FakeDocuments([[[5, 6], [7, 8], last]]) for last in ([9, 10], [30, 31]))
    for rules, is_same in (((), True), (("targets",), True), (("future",), False)):
        before, after = (score_sllm(model, passages(each, 4), 60, rules).nll_S[:2] for each in (one, other))
        assert np.array_equal(before, after) == is_same, rules


def test_each_rule_alone_does_what_it_says():
    scores = Scores(
        nll_S=np.array([4.0, 6.0, 9.0]),
        certain_S=np.array([0.0, 1.0, 0.0]),
        stop_S=np.array([0.5, 0.5, 0.5]),
        tokens_S=np.array([2, 3, 1]),
        group_S=np.array([0, 0, 3]),
        is_first_S=np.array([True, False, False]),
    )
    expected = {
        (): 19.5 / 6,
        ("given",): 15 / 4,
        ("stop",): 18 / 6,
        ("eos",): 20.5 / 9,
        ("means",): np.mean([10 / 5, 9.5 / 1]),
        ("given", "stop", "eos", "means"): np.mean([6 / 4, 9 / 2]),
    }
    for rules, mean in expected.items():
        assert perplexity(scores, rules) == pytest.approx(math.exp(mean)), rules


@pytest.mark.parametrize("focal_gamma", [0.0, 2.0])
def test_training_without_rules_is_that_of_the_model(sllm, random_documents, focal_gamma):
    documents = random_documents(4)
    model = sllm("opt", context_sentences=9, focal_gamma=focal_gamma)
    batch = SentenceWindows(documents, 9, BOS, EOS).batch(np.arange(4))
    ours, theirs = model(batch), NextSentenceObjective(model, ())(batch)
    for name in ("objective", "nll"):
        assert theirs[name].item() == pytest.approx(ours[name].item(), rel=1e-9)


def test_training_by_all_rules_is_the_mean_of_the_losses_of_passages(sllm, random_documents):
    documents = random_documents(4, sentences=5)
    model = sllm("opt", context_sentences=8)
    batch = SentenceWindows(documents, 8, BOS, EOS).batch(np.arange(4))
    rules = ("given", "means", "targets", "future")
    found = NextSentenceObjective(model, rules)(batch)["objective"].item() / len(batch.tokens_T)
    losses = []
    for passage in (FakeDocuments([document]) for document in documents.documents):
        scores = score_sllm(model, passages(passage, 8), 999, ("targets", "future"))
        tokens = math.log(perplexity(scores, RULES)) if len(passage.documents[0]) > 1 else 0.0
        losses.append(tokens + scores.stop_S.mean())
    assert found == pytest.approx(np.mean(losses), rel=1e-9)


def test_other_designs_are_refused(sllm):
    with pytest.raises(ModelError, match="decoder of one sentence"):
        check_design(sllm(**HEAD, context_attention_heads=4))


def test_the_text_that_is_read(random_documents):
    text = ["One, two. And\n", "three words without a mark", "dog " * 80 + "end. ", "Next! ", "  \n", "tail"]
    tokenizer = Tokenizer.train([" ".join(text)], 300)
    ids = [tokenizer.encode([part])[0].ids.tolist() for part in text]
    long = ids[2]
    documents = FakeDocuments(
        [[ids[0], ids[1] + ids[2][:40], long[40:], ids[3], ids[4], ids[5]], [ids[5]], [ids[3]] * 70]
    )
    read = as_read(documents, tokenizer, 64)
    first, second, third = sentences_of(read)
    assert [len(sentence) for sentence in first] == [
        len(ids[0]),
        min(len(ids[1]) + 40, 63),
        len(ids[3]),
        len(ids[4]),
    ]
    assert second == [] and len(third) == 64
    assert len(sentences_of(as_read(documents, tokenizer))[2]) == 70
    cut = first_tokens(documents, 5)
    assert [len(sentence) for document in sentences_of(cut) for sentence in document] == [
        5,
        min(len(ids[5]), 5),
        5,
    ]
    assert np.array_equal(cut.gather(np.array([0]), np.array([5])), documents.flat[:5])


def test_rules_are_named_once():
    assert set(VAE_RULES) | set(FORWARD_RULES) <= set(RULES)
