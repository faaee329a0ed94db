"""A decoder that attends to the last positions of earlier sentences: exact from prefixes alone, and learned."""

import pytest
import torch

from pipeline.config import GenerateConfig
from pipeline.errors import ModelError
from pipeline.generation.drafted_sentences import DraftedDecoder
from pipeline.generation.generate import generate_documents
from tests.pipeline.models.test_sllm import STATES, pack


@torch.no_grad()
def test_each_token_has_the_probability_that_its_prefix_gives(sllm, random_documents):
    model = sllm(**STATES)
    first, second = random_documents(2, seed=5, sentences=9).documents
    whole_R = model.score(pack(first, second))[0]
    found = []
    for s, sentence in enumerate(first):
        for t in range(len(sentence)):  # nothing comes after the token
            nll_R = model.score(pack([*first[:s], sentence[: t + 1]]))[0]
            found.append(nll_R[-2])
        found.append(model.score(pack(first[: s + 1]))[0][-1])  # EOS
    assert torch.allclose(torch.stack(found), whole_R[: len(found)], rtol=1e-12, atol=0)


def test_a_token_reaches_far_sentences_through_states_with_gradients(sllm):
    """Beyond the reach of the windows of all layers, and without the trunk's prediction."""
    sentences = [[11, 12, 13], *([4, 5, 6, 7, 8, 9] for _ in range(3)), [3, 3]]
    for count, reaches in ((4, True), (0, False)):
        model = sllm(**{**STATES, "state_attention_sentences": count})
        model.config.trunk_prediction = False
        nll_R = model.score(pack(sentences))[0]
        (gradient_VH,) = torch.autograd.grad(nll_R[-3:].sum(), model.vae.embedding.weight)
        assert bool(gradient_VH[11].any()) == reaches


@pytest.mark.parametrize(
    ("option", "value"),
    [("encoder_layers", 1), ("conditioning", "prefix"), ("decoder_window", 0), ("kl_weight", 0.1)],
)
def test_options_that_do_not_go_with_it_are_refused(sllm, option, value):
    with pytest.raises(ModelError, match=rf"state_attention_sentences=3 needs vae\.{option}"):
        sllm(**{**STATES, option: value})


def test_no_sentences_are_drafted(sllm):
    model = sllm(**STATES)
    with pytest.raises(ModelError, match="no sentences are drafted"):
        next(
            generate_documents(
                model, [[]], GenerateConfig(), decoder=DraftedDecoder(model.vae, model.vae, 11)
            )
        )
