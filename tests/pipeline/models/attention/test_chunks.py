"""The token-level twin: exact likelihoods from prefixes alone, and the same model in generation."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.errors import ModelError
from pipeline.evaluation.likelihood import token_lm_nll
from pipeline.generation.token_lm import generate_tokens
from pipeline.models.attention.chunks import ChunkAttentionLm, ChunkAttentionLmConfig, chunk_memory
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.stream.windows import TokenWindows
from tests.pipeline.models.attention.prefixes import RecordingSampler, nll_from_prefixes

BOS, EOS = 1, 2
CHUNK, CHUNKS, CONTEXT = 3, 6, 9


@pytest.fixture
def twin(trunk_config):
    torch.manual_seed(0)
    options = {"context_attention_heads": 2, "context_chunk_tokens": CHUNK, "context_chunks": CHUNKS}
    model = ChunkAttentionLm(ChunkAttentionLmConfig(lm_config=trunk_config("llama"), **options))
    torch.nn.init.normal_(model.context_attention.scale_H)  # so that the memory changes much
    return TokenLm(model).double().eval()


def logits_by_hand(twin, prefix, window_start, first_chunk):
    """Logits after the prefix of a document, whose window begins at `window_start`, by plain arithmetic."""
    model = twin.model
    ids = torch.tensor([[BOS, *prefix[window_start:]]])
    hidden_H = model.lm.base_model(input_ids=ids).last_hidden_state[0, -1]
    attention, head = model.context_attention, model.get_output_embeddings()
    chunks = [prefix[i : i + CHUNK] for i in range(0, len(prefix) - CHUNK + 1, CHUNK)][first_chunk:]
    latents = [model.latent_norm(head.weight[chunk].sum(0)) for chunk in chunks]
    keys_MH = torch.stack([attention.none_H, *(attention.key(latent) for latent in latents)])
    values_MH = torch.stack([torch.zeros_like(hidden_H), *latents])
    heads = []
    for q_K, k_MK, v_MK in zip(
        attention.query(hidden_H).chunk(2), keys_MH.chunk(2, 1), values_MH.chunk(2, 1), strict=True
    ):
        heads.append((k_MK @ q_K / len(q_K) ** 0.5).softmax(0) @ v_MK)
    return head(hidden_H + torch.cat(heads) * attention.scale_H)


@torch.no_grad()
@pytest.mark.parametrize("overlap", [0, 4])
def test_each_token_has_the_probability_that_its_prefix_gives(twin, random_documents, overlap):
    documents = random_documents(4, sentences=8)
    source = TokenWindows(documents, CONTEXT, BOS, EOS, overlap, twin.memory(CONTEXT))

    def logits_of(tokens, start):
        return logits_by_hand(twin, tokens, start, max(start // CHUNK - (CHUNKS - CONTEXT // CHUNK), 0))

    expected = [nll_from_prefixes(each, CONTEXT, overlap, EOS, logits_of) for each in documents.documents]
    for micro_batch_tokens in (1, 50, 10_000):
        assert token_lm_nll(twin, source, micro_batch_tokens) == pytest.approx(expected, rel=1e-9)


@torch.no_grad()
def test_generation_gives_the_logits_of_the_prefix(twin):
    sampler = RecordingSampler()
    rows = generate_tokens(twin, 2, 30, 64, BOS, EOS, sampler)
    for row, tokens in enumerate(rows.tolist()):
        for n in (0, 2, 3, 4, 17, 29):
            expected = logits_by_hand(twin, tokens[:n], 0, max(n // CHUNK - CHUNKS, 0))
            expected[[BOS, EOS]] = -torch.inf
            assert torch.allclose(sampler.given[n][row], expected, atol=1e-6), n


def test_saved_and_loaded_it_is_the_same_model(twin, random_documents, tmp_path):
    twin.model.float().save_pretrained(tmp_path)
    again = TokenLm(load_causal_lm(str(tmp_path))).eval()
    source = TokenWindows(random_documents(2), CONTEXT, BOS, EOS, 4, again.memory(CONTEXT))
    assert (token_lm_nll(twin, source, 50) == token_lm_nll(again, source, 50)).all()


def test_its_memory_is_learned(twin, random_documents):
    source = TokenWindows(random_documents(2, sentences=8), CONTEXT, BOS, EOS, 0, twin.memory(CONTEXT))
    twin(source.batch(torch.arange(len(source.windows)).numpy()))["objective"].backward()
    for name, parameter in twin.model.context_attention.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_model_without_context_attention_has_no_chunks(trunk_config):
    assert TokenLm(AutoModelForCausalLM.from_config(trunk_config("llama"))).memory(64) is None


def test_no_position_attends_to_more_chunks_than_said(random_documents, twin):
    memory = chunk_memory(twin.model.config, CONTEXT)
    documents = random_documents(3, sentences=30)
    batch = TokenWindows(documents, CONTEXT, BOS, EOS, 4, memory)
    seen = batch.batch(torch.arange(len(batch.windows)).numpy()).visible_DL
    assert seen.max() == CHUNKS


def test_heads_that_do_not_divide_the_width_are_refused(trunk_config):
    with pytest.raises(ModelError, match="context_attention_heads"):
        ChunkAttentionLm(ChunkAttentionLmConfig(lm_config=trunk_config("llama"), context_attention_heads=7))
