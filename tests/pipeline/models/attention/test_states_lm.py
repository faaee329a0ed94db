"""A token-level model that attends to the last positions of chunks: exact from prefixes alone, and in generation."""

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.evaluation.likelihood import token_lm_nll
from pipeline.generation.token_lm import generate_tokens
from pipeline.models.attention.states_lm import StatesLm, StatesLmConfig
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.stream.windows import TokenWindows
from tests.pipeline.models.attention.prefixes import RecordingSampler, nll_from_prefixes

BOS, EOS, VOCAB = 1, 2, 50
CHUNK, CHUNKS, WINDOW, CONTEXT = 3, 2, 4, 19
SHAPE = {"vocab_size": VOCAB, "hidden_size": 32, "num_heads": 2, "sliding_window": WINDOW}


@pytest.fixture
def twin():
    torch.manual_seed(0)
    model = StatesLm(StatesLmConfig(**SHAPE, chunk_tokens=CHUNK, attended_chunks=CHUNKS))
    return TokenLm(model).double().eval()


class Attended:
    """The definition, with loops: the keys of each position are those of a set."""

    def __init__(self, num_positions):
        self.positions_T = torch.arange(num_positions)

    def keys(self, p):
        window = set(range(max(p - WINDOW + 1, 0), p + 1))
        own = max(p - 1, 0) // CHUNK  # BOS is in position 0
        return sorted(window | {(chunk + 1) * CHUNK for chunk in range(max(own - CHUNKS, 0), own)})

    def attend(self, q_TAK, k_TAK, v_TAK, layer):
        out_TAK = torch.empty_like(q_TAK)
        for p in range(len(q_TAK)):
            k_YAK, v_YAK = k_TAK[self.keys(p)], v_TAK[self.keys(p)]
            weights_YA = ((q_TAK[p] * k_YAK).sum(-1) / k_YAK.shape[-1] ** 0.5).softmax(0)
            out_TAK[p] = (weights_YA[..., None] * v_YAK).sum(0)
        return out_TAK


def logits_by_hand(twin, prefix):
    """Logits after a prefix of a window."""
    ids = torch.tensor([BOS, *prefix])
    return twin.model.head(twin.model.decode(ids, Attended(len(ids)))[-1])


@torch.no_grad()
@pytest.mark.parametrize("overlap", [0, 9])
def test_each_token_has_the_probability_that_its_prefix_gives(twin, random_documents, overlap):
    documents = random_documents(4, sentences=8)
    source = TokenWindows(documents, CONTEXT, BOS, EOS, overlap)

    def logits_of(tokens, start):
        return logits_by_hand(twin, tokens[start:])

    expected = [nll_from_prefixes(each, CONTEXT, overlap, EOS, logits_of) for each in documents.documents]
    for micro_batch_tokens in (1, 50, 10_000):
        assert token_lm_nll(twin, source, micro_batch_tokens) == pytest.approx(expected, rel=1e-9)


@torch.no_grad()
def test_generation_gives_the_logits_of_the_prefix(twin):
    sampler = RecordingSampler()
    for row, tokens in enumerate(generate_tokens(twin, 2, 24, 64, BOS, EOS, sampler).tolist()):
        for n in range(24):
            expected = logits_by_hand(twin, tokens[:n])
            expected[[BOS, EOS]] = -torch.inf
            assert torch.allclose(sampler.given[n][row], expected, atol=1e-10), n


def test_saved_and_loaded_it_is_the_same_model(twin, random_documents, tmp_path):
    twin.model.float().save_pretrained(tmp_path)
    again = TokenLm(load_causal_lm(str(tmp_path))).eval()
    source = TokenWindows(random_documents(2), CONTEXT, BOS, EOS, 4)
    assert (token_lm_nll(twin, source, 50) == token_lm_nll(again, source, 50)).all()
    assert again.model.config.chunk_tokens == CHUNK


def test_its_memory_is_learned(twin, random_documents):
    """A token reaches the loss of far later ones through the states alone, with gradients."""
    source = TokenWindows(random_documents(1, sentences=9, seed=3), 100, BOS, EOS)
    batch = source.batch(np.arange(1))
    nll_L = twin.score(batch)[0]
    (gradient_VH,) = torch.autograd.grad(nll_L[2 * WINDOW + 1 :].sum(), twin.model.embedding.weight)
    only_here = set(batch.inputs_DL[0, :CHUNK].tolist()) - set(batch.inputs_DL[0, CHUNK:].tolist())
    assert only_here and all(gradient_VH[token].abs().sum() > 0 for token in only_here)


@pytest.mark.parametrize("options", [{"num_heads": 3}, {"chunk_tokens": 0}, {"attended_chunks": -1}])
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ModelError, match=next(iter(options))):
        StatesLm(StatesLmConfig(**{**SHAPE, **options}))
