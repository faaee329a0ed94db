"""FLOPs on paper against those that PyTorch counts; parameters and memory of the context against real models."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from pipeline.evaluation.flops import (
    context_bytes_per_token,
    context_memory,
    flops_of,
    generation_flops,
    long_generation_flops,
    model_parts,
    num_parameters,
    training_flops,
    training_flops_of,
)
from pipeline.evaluation.workload import Workload
from pipeline.models.attention.states_lm import StatesLm, StatesLmConfig
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch, TokenBatch
from tests.pipeline.models.test_sllm import STATES

HEAD = {
    "output_latent_scale": 0.1,
    "encoder_embedding": "output",
    "encoder_layers": 0,
    "tie_word_embeddings": False,
}
TOKENS, SENTENCES, WINDOWS = 16, 15, 4  # equal lengths: no padding in a bucket


@pytest.fixture
def sllm(sllm):
    """Models of sentences as long as these."""
    return functools.partial(sllm, max_sentence_tokens=TOKENS)


def sentence_batch():
    count = SENTENCES * WINDOWS
    tokens = np.random.default_rng(0).integers(3, 50, TOKENS * count)
    return SentenceBatch.pack(tokens, [TOKENS] * count, [SENTENCES] * WINDOWS, bos_id=1, eos_id=2)


def sentence_work():
    """As kernels count it: a causal query counts all keys of its sentence."""
    count = SENTENCES * WINDOWS
    return Workload(
        tokens=TOKENS * count,
        loss_tokens=TOKENS * count,
        sentences=count,
        decoded_sentences=count,
        windows=WINDOWS,
        token_pairs=TOKENS**2 * count,
        decoder_pairs=(TOKENS + 1) ** 2 * count,
        trunk_pairs=(SENTENCES + 1) ** 2 * WINDOWS,
        context_pairs=(TOKENS + 1) * (SENTENCES + 1) * count,
    )


@pytest.mark.parametrize("trunk", ["opt", "llama", "gpt2", "gpt_neox", "qwen3", "mistral"])
def test_flops_of_training_an_sllm(sllm, trunk):
    model = sllm(trunk, kl_weight=1e-3).float().train()
    model.trunk.config._attn_implementation = "sdpa"
    counted = training_flops_of(model, sentence_batch())
    assert training_flops(model_parts(model), sentence_work()) == pytest.approx(counted, rel=0.02)


def test_flops_of_training_after_context_only_sentences(sllm):
    model = sllm(context_attention_heads=4, **HEAD).float().train()
    model.trunk.config._attn_implementation = "sdpa"
    count, context = SENTENCES * WINDOWS, SENTENCES - 3
    tokens = np.random.default_rng(0).integers(3, 50, TOKENS * count)
    batch = SentenceBatch.pack(
        tokens, [TOKENS] * count, [SENTENCES] * WINDOWS, bos_id=1, eos_id=2,
        context_D=np.full(WINDOWS, context), decoded_context_positions=0,
    )  # fmt: skip
    counted = training_flops_of(model, batch)
    work = Workload.of_sentences([TOKENS] * count, [SENTENCES] * WINDOWS, [context] * WINDOWS)
    assert work.loss_tokens == 3 * TOKENS * WINDOWS
    assert work.context_pairs == (TOKENS + 1) * sum(range(context + 1, SENTENCES + 1)) * WINDOWS
    as_kernels_count = replace(
        work,
        decoder_pairs=(TOKENS + 1) ** 2 * 3 * WINDOWS,
        trunk_pairs=sentence_work().trunk_pairs,
        context_pairs=(TOKENS + 1) * (SENTENCES + 1) * 3 * WINDOWS,
    )
    assert training_flops(model_parts(model), as_kernels_count) == pytest.approx(counted, rel=0.03)


def test_flops_of_training_with_frozen_parts(sllm):
    model = sllm(hidden_size=64).float().train()
    model.config.freeze_vae = True
    model.vae.requires_grad_(False)
    model.trunk.layers[0].requires_grad_(False)
    counted = training_flops_of(model, sentence_batch())
    # Below the first attention to the latent a frozen decoder needs no gradient at all; we count one.
    assert counted <= training_flops(model_parts(model), sentence_work()) <= 1.15 * counted


@pytest.mark.parametrize("conditioning", ["cross_attention", "prefix", "none"])
def test_flops_of_training_a_vae(sllm, conditioning):
    vae = (
        sllm(conditioning=conditioning, output_latent_scale=float(conditioning == "none")).vae.float().train()
    )
    counted = training_flops_of(vae, sentence_batch())
    assert training_flops(model_parts(vae), sentence_work()) == pytest.approx(counted, rel=0.02)


WINDOW = 24
LOCAL = {"block": "llama", "decoder_window": WINDOW}


def kernel_pairs(rows, window=WINDOW):
    """A chunk of queries as large as the window counts all keys of its own and of the one before."""
    return -(-rows // window) * window * 2 * window


def scores_again(model, work):
    """A fused kernel computes scores twice; a model needs them once."""
    return sum(2 * part.attention_width * getattr(work, part.pairs) for part in model_parts(model))


@pytest.mark.parametrize(
    "design", [LOCAL, {**LOCAL, "conditioning": "prefix"}, {**LOCAL, **HEAD, "context_attention_heads": 4}]
)
@pytest.mark.parametrize("part", ["vae", "sllm"])
def test_flops_of_training_a_decoder_that_sees_a_window(sllm, design, part):
    model = sllm(**design).float().train()
    model.trunk.config._attn_implementation = "sdpa"
    model = model.vae if part == "vae" else model
    counted = training_flops_of(model, sentence_batch())
    rows = (TOKENS + 1) * SENTENCES
    work = replace(sentence_work(), decoder_pairs=kernel_pairs(rows * WINDOWS))
    expected = counted - scores_again(model, work)
    assert training_flops(model_parts(model), work) == pytest.approx(expected, rel=0.002)
    # On paper a position counts the keys of the window that it sees.
    count = SENTENCES * WINDOWS
    paper = Workload.of_sentences([TOKENS] * count, [SENTENCES] * WINDOWS, decoder_window=WINDOW)
    assert paper.decoder_pairs == sum(min(row + 1, WINDOW) for row in range(rows)) * WINDOWS
    own = Workload.of_sentences([TOKENS] * count, [SENTENCES] * WINDOWS)
    assert own.decoder_pairs == (TOKENS + 1) * (TOKENS + 2) / 2 * count < paper.decoder_pairs


@pytest.mark.parametrize("decoded_rows", [0, 5, WINDOW - 1, 1000])
@pytest.mark.parametrize("design", [LOCAL, {**LOCAL, **HEAD, "context_attention_heads": 4}])
def test_flops_of_training_a_window_after_context_only_sentences(sllm, design, decoded_rows):
    """Context that the window reaches into is decoded too, and counted."""
    model = sllm(**design).float().train()
    model.trunk.config._attn_implementation = "sdpa"
    context = SENTENCES - 3
    lengths = [TOKENS] * SENTENCES * WINDOWS
    tokens = np.random.default_rng(0).integers(3, 50, sum(lengths))
    batch = SentenceBatch.pack(
        tokens, lengths, [SENTENCES] * WINDOWS, bos_id=1, eos_id=2,
        context_D=np.full(WINDOWS, context), decoded_context_positions=decoded_rows,
    )  # fmt: skip
    work = Workload.of_sentences(
        lengths, [SENTENCES] * WINDOWS, [context] * WINDOWS, WINDOW, decoded_context_positions=decoded_rows
    )
    decoded = batch.decoded
    assert work.decoded_sentences == len(decoded.stop_S)
    assert work.positions("decoder_positions") == decoded.positions.num_tokens
    assert work.loss_tokens == 3 * TOKENS * WINDOWS
    rows = int(work.positions("decoder_positions"))
    assert work.decoder_pairs == sum(min(row + 1, WINDOW) for row in range(rows // WINDOWS)) * WINDOWS
    as_kernels_count = replace(
        work,
        decoder_pairs=kernel_pairs(rows),
        trunk_pairs=sentence_work().trunk_pairs,
        context_pairs=rows * (SENTENCES + 1),
    )
    counted = training_flops_of(model, batch)
    expected = counted - scores_again(model, as_kernels_count)
    assert training_flops(model_parts(model), as_kernels_count) == pytest.approx(expected, rel=0.002)


def token_lm(trunk_config, name="llama", **options):
    return TokenLm(AutoModelForCausalLM.from_config(trunk_config(name, **options)))


def test_flops_of_training_a_token_level_model(trunk_config):
    model = token_lm(trunk_config, num_key_value_heads=4).train()
    batch = TokenBatch.pack(np.tile(np.arange(3, 34), 5), [31] * 5, bos_id=1, eos_id=2)
    counted = training_flops_of(model, batch)
    work = Workload(tokens=32 * 5, token_pairs=32**2 * 5)
    scores_again = 2 * 64 * work.token_pairs  # a fused kernel computes them twice; a model needs them once
    assert training_flops(model_parts(model), work) == pytest.approx(counted - scores_again, rel=1e-3)


def test_a_causal_query_counts_the_keys_that_it_sees():
    work = Workload.of_sentences([2, 3, 1], [2, 1])
    assert (work.tokens, work.sentences, work.windows) == (6, 3, 2)
    assert work.token_pairs == 4 + 9 + 1
    assert work.decoder_pairs == (1 + 2 + 3) + (1 + 2 + 3 + 4) + (1 + 2)
    assert work.trunk_pairs == (1 + 2 + 3) + (1 + 2)
    assert Workload.of_tokens([3, 1]).token_pairs == (1 + 2 + 3) + 1


def test_flops_of_generating_a_token(trunk_config):
    model = token_lm(trunk_config).eval()
    cache = DynamicCache(config=model.model.config)
    with torch.no_grad():
        model.model(input_ids=torch.arange(3, 23)[None], past_key_values=cache)
        counted = flops_of(lambda: model.model(input_ids=torch.tensor([[3]]), past_key_values=cache))
    assert generation_flops(model, 1.0, 20) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("context_attention_heads", [0, 4])
@pytest.mark.parametrize("conditioning", ["cross_attention", "prefix", "none"])
def test_flops_of_generating_a_sentence(sllm, conditioning, context_attention_heads):
    from pipeline.generation.sentence_decoder import SentenceDecoder
    from pipeline.generation.trunk_cache import TrunkCache

    options = {"conditioning": conditioning, "output_latent_scale": float(conditioning == "none")}
    model = sllm(context_attention_heads=context_attention_heads, **options).float()
    decoder = SentenceDecoder(model.vae, 1, TOKENS, model.context_attention)
    sentence = SentenceBatch.pack([3] * TOKENS, [TOKENS], [1], bos_id=1, eos_id=2)
    with torch.inference_mode():
        memory = TrunkCache(model)
        for _ in range(10):
            memory.add([0], [model.vae.encode(sentence)])

        def generate():
            # At the last of its positions EOS is predicted.
            decoder.start([0], memory.predict(), [TOKENS], [memory.earlier(0)])
            decoder.generate(lambda logits: torch.tensor([3]))
            memory.add([0], [model.vae.encode(sentence)])

        counted = flops_of(generate) / TOKENS
    assert generation_flops(model, TOKENS, 10 * TOKENS) == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize(
    "design", [{}, LOCAL, {**LOCAL, **HEAD, "context_attention_heads": 4}, {"conditioning": "prefix"}]
)
def test_flops_of_generating_a_long_document(sllm, design):
    """Generation as it runs, its context of 8 sentences filled again and again."""
    from pipeline.config import GenerateConfig
    from pipeline.generation.generate import generate_documents

    model = sllm(context_sentences=8, **design).float()
    with torch.no_grad():  # a sentence never ends before its last token
        weight = model.vae.head.weight.clone()
        weight[model.vae.config.eos_token_id] = 0
        model.vae.head.weight = torch.nn.Parameter(weight)
    longest = model.vae.config.max_sentence_tokens

    class NeverEnds:
        generator = torch.Generator()

        def __call__(self, logits):
            return torch.full((len(logits),), 3)

    def generate(sentences):
        config = GenerateConfig(max_sentences=sentences, max_tokens=10_000, seed=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.generation.generate.Sampler", lambda *_: NeverEnds())
            generated = list(generate_documents(model, [[]], config, may_stop=False))
        assert [len(sentence.token_ids) for _, sentence in generated] == [longest] * sentences

    _, cycle = Workload.generated_sentences_until_full(TOKENS, 8, design.get("decoder_window", 0))
    assert cycle == 5
    few, many = (flops_of(lambda n=n: generate(n)) for n in (10, 10 + 4 * cycle))
    counted = (many - few) / (4 * cycle * TOKENS)
    on_paper = long_generation_flops(model, TOKENS, 8 * TOKENS)
    # The kernels count the keys after a causal query too.
    parts = {part.name: part for part in model_parts(model)}
    if "decoder_window" not in design:
        masked = cycle * ((TOKENS + 1) * TOKENS - (TOKENS + 1) * (TOKENS + 2) / 2)
        on_paper += 4 * parts["decoder"].attention_width * masked / (cycle * TOKENS)
    on_paper += 4 * parts["trunk"].attention_width * (5 * 4 / 2) / (cycle * TOKENS)
    assert on_paper == pytest.approx(counted, rel=0.01)
    # Computing the context again doubles the FLOPs of the trunk; a sentence of a short document does not cost that.
    assert on_paper > generation_flops(model, TOKENS, 6 * TOKENS)


@pytest.mark.parametrize("trunk", ["opt", "llama", "qwen3"])
def test_memory_of_the_context_is_that_of_the_cache(trunk_config, sllm, trunk):
    model = token_lm(trunk_config, trunk)
    cache = DynamicCache(config=model.model.config)
    model.model(input_ids=torch.arange(3, 23)[None], past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert context_bytes_per_token(model, 1.0, bytes_per_value=4) == held / 20
    latent = 32 * 4
    expected = (context_bytes_per_token(model, 1.0, 4) + latent) / 8
    assert context_bytes_per_token(sllm(trunk), 8.0, 4) == expected


def test_memory_of_the_context_has_a_key_and_a_value_of_each_sentence_in_each_layer(sllm):
    with_states, alone = (sllm(**{**STATES, "state_attention_sentences": count}) for count in (4, 0))
    states = 2 * len(alone.vae.decoder) * 32 * 4
    growing, window = context_memory(with_states.float(), 8.0)
    assert (growing, window) == (context_memory(alone.float(), 8.0)[0] + states / 8, 2 * 2 * 32 * 4 * 5)


def test_a_token_level_model_has_one_of_each_chunk():
    config = StatesLmConfig(vocab_size=50, hidden_size=32, num_layers=2, sliding_window=5, chunk_tokens=8)
    per_layer = 2 * 32 * 4
    assert context_memory(TokenLm(StatesLm(config)), 3.0) == (2 * per_layer / 8, 2 * per_layer * 5)


def test_tied_parameters_count_once(sllm, trunk_config):
    vae = sllm().vae
    assert num_parameters(vae) == sum(p.numel() for p in vae.state_dict().values()) - 50 * 32
    vae.encoder.requires_grad_(False)
    assert num_parameters(vae, trained=True) == num_parameters(vae) - num_parameters(vae.encoder)
