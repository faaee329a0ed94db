"""Drafted sentences are those of the deep decoder: the same when greedy, of the same distribution when sampled."""

from collections import Counter

import pytest
import torch

from pipeline.config import GenerateConfig
from pipeline.errors import ModelError
from pipeline.generation.drafted_sentences import DraftedDecoder, first_decoder_layers
from pipeline.generation.generate import generate_documents
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.speculation import accepted

DECODERS = {
    "paper": {},
    "llama": {"block": "llama"},
    "sliding": {"block": "llama", "decoder_window": 9},
    "prefix-wide": {"block": "llama", "conditioning": "prefix", "decoder_window": 100},
    "head": {"conditioning": "none", "output_latent_scale": 0.5, "encoder_embedding": "output"},
    "context-attention-sliding": {"context_attention_heads": 4, "block": "llama", "decoder_window": 9},
}


def varied(sllm, **options):
    """An untrained model that does not repeat its input for ever."""
    model = sllm(num_hidden_layers=1, **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    head = torch.randn(model.vae.head.weight.shape, dtype=torch.float64, generator=generator)
    model.vae.head.weight = torch.nn.Parameter(head, requires_grad=False)
    model.vae.head.weight[2] *= 2.5
    return model


@pytest.mark.parametrize("drafted", [None, 2])
@pytest.mark.parametrize("options", DECODERS.values(), ids=DECODERS)
def test_greedy_sentences_are_the_same(sllm, options, drafted):
    model = varied(sllm, num_layers=3, **options)
    config = GenerateConfig(max_sentences=6, max_sentence_tokens=11, max_tokens=50)
    prompt = [[5, 6, 7], [9], [11, 12, 13, 14]]
    expected = list(generate_documents(model, [prompt], config, may_stop=False))
    assert len({len(sentence.token_ids) for _, sentence in expected}) > 1
    for layers in (1, 3):
        drafter = first_decoder_layers(model.vae, layers)
        decoder = DraftedDecoder(model.vae, drafter, 11, model.context_attention, drafted)
        found = list(generate_documents(model, [prompt], config, may_stop=False, decoder=decoder))
        assert [(document, one.token_ids) for document, one in found] == [
            (document, one.token_ids) for document, one in expected
        ]
        if layers == 3 and drafted is None and model.context_attention is None:
            assert decoder.passes == len(found)  # each draft is what the deep decoder says


def test_sampled_sentences_have_the_distribution_of_the_deep_decoder(sllm):
    """Many first sentences, drafted and not, of a vocabulary of four tokens and EOS."""
    vae = varied(sllm, num_layers=2, vocab_size=7, block="llama").vae
    latent_1H = torch.randn(1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    counts = []
    for drafting in (False, True):
        sampler, seen = Sampler(4.0, seed=2), Counter()
        shallow = first_decoder_layers(vae, 1)
        decoder = DraftedDecoder(vae, shallow, 2) if drafting else SentenceDecoder(vae, 1, 2)
        for _ in range(400):
            decoder.start([0], latent_1H, [2])
            seen[tuple(decoder.generate(sampler)[0])] += 1
        counts.append(seen)
    plain, drafted = counts
    chi_square = sum(
        (plain[one] - drafted[one]) ** 2 / (plain[one] + drafted[one]) for one in {*plain, *drafted}
    )
    freedom = len({*plain, *drafted}) - 1
    assert freedom > 3
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5 + 4


def test_the_comparison_sees_drafts_that_are_taken_as_they_are(sllm, monkeypatch):
    """The test above can fail."""
    monkeypatch.setattr(
        "pipeline.generation.drafted_sentences.accepted",
        lambda p_NV, drafts, q_NV, sampler: [*drafts, *accepted(p_NV[-1:], [], None, sampler)],
    )
    with pytest.raises(AssertionError, match=r"assert \d+\.\d+ <"):
        test_sampled_sentences_have_the_distribution_of_the_deep_decoder(sllm)


def test_decoders_that_do_not_fit_are_an_error(sllm):
    with pytest.raises(ModelError, match="vocab_size"):
        DraftedDecoder(sllm().vae, sllm(vocab_size=40).vae, 11)
