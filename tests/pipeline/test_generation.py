"""What is written is read again, and every cap holds."""

import pytest
import torch

from pipeline.batches import SentenceBatch
from pipeline.config import GenerateConfig
from pipeline.generation import Memory, encode_sentences, generate
from pipeline.sampling import Sampler


def never_stop(model):
    with torch.no_grad():
        model.stop_head.weight.zero_()
        model.stop_head.bias.fill_(-30.0)
    return model


def test_caps_hold(sllm):
    model = never_stop(sllm())
    out = list(generate(model, [], GenerateConfig(max_sentences=5, max_sentence_tokens=7)))
    assert len(out) == 5
    assert all(1 <= len(s.token_ids) <= 7 for s in out)
    out = list(generate(model, [], GenerateConfig(max_sentences=50, max_tokens=20, temperature=1.0)))
    assert sum(len(s.token_ids) for s in out) == 20


def test_the_model_can_stop(sllm):
    model = sllm()
    with torch.no_grad():
        model.stop_head.bias.fill_(30.0)
    assert len(list(generate(model, [], GenerateConfig(max_sentences=5)))) == 1


def test_a_generated_sentence_changes_what_follows(sllm):
    model = sllm()
    first, other = [[5, 6, 7]], [[9, 10]]
    predictions = []
    for sentence in (first, other):
        memory = Memory(model)
        memory.add(encode_sentences(model, sentence))
        predictions.append(memory.predict())
    assert not torch.allclose(*predictions)
    start = Memory(model).predict()
    assert not torch.allclose(predictions[0], start)


def test_sentence_by_sentence_equals_all_at_once(sllm):
    model = sllm()
    sentences = [[5, 6, 7], [9], [11, 12, 13, 14]]
    with torch.no_grad():
        stepwise, at_once = Memory(model), Memory(model)
        for sentence in sentences:
            stepwise.add(encode_sentences(model, [sentence]))
        at_once.add(encode_sentences(model, sentences))
    assert torch.allclose(stepwise.predict(), at_once.predict(), atol=1e-12)


def test_context_is_bounded(sllm):
    model = never_stop(sllm(context_sentences=4))
    assert len(list(generate(model, [[3]] * 9, GenerateConfig(max_sentences=12)))) == 12


@pytest.mark.parametrize("norm_first", [False, True])
def test_cached_decoding_is_greedy_decoding(sllm, norm_first):
    """Each token is the likeliest after those before it, by the uncached decoder of training."""
    vae = sllm(norm_first=norm_first).vae
    latents = torch.randn(6, 32, dtype=torch.float64)
    for latent, sentence in zip(latents, vae.decode(latents, 9, Sampler()), strict=True):
        batch = SentenceBatch.pack(sentence, [len(sentence)], [1], bos_id=1, eos_id=2)
        logits = vae.decode_logits(latent[None], batch)
        logits[0, 2] = logits[:, 1] = -torch.inf
        ids = [*sentence, 2] if len(sentence) < 9 else sentence
        assert logits.argmax(-1)[: len(ids)].tolist() == ids


def test_nucleus_keeps_the_likeliest():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    drawn = {int(Sampler(1.0, top_p, seed)(logits)) for top_p in (0.5,) for seed in range(50)}
    assert drawn == {0}
    assert len({int(Sampler(1.0, 1.0, seed)(logits)) for seed in range(200)}) > 2
