"""Generated sentences are context of the next, generation is the forward pass of training, and every limit holds."""

import pytest
import torch

from pipeline.config import GenerateConfig
from pipeline.generation.generate import generate, generate_documents
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.states_decoder import StatesDecoder, decoder_of
from pipeline.generation.trunk_cache import TrunkCache
from pipeline.stream.batches import SentenceBatch
from tests.pipeline.models.test_sllm import STATES

TRUNKS = ["opt", "opt-projected", "llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox"]


def never_stop(model):
    with torch.no_grad():
        model.stop_head.weight.zero_()
        model.stop_head.bias.fill_(-30.0)
    return model


def pack(*documents):
    sentences = [sentence for document in documents for sentence in document]
    return SentenceBatch.pack(
        [token for sentence in sentences for token in sentence],
        [len(sentence) for sentence in sentences],
        [len(document) for document in documents],
        bos_id=1,
        eos_id=2,
    )


def training_logits(model, batch):
    """Logits [R, V] of the forward pass of training, all positions at once."""
    encoded = model.encode(batch)
    predicted_SH, _ = model.predict(encoded.latents_SH, batch)
    return model.vae.head(model.decode(predicted_SH, encoded, batch))


def latents(model, sentences):
    return [model.vae.encode(pack(sentences))]


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
        memory = TrunkCache(model)
        memory.add([0], latents(model, sentence))
        predictions.append(memory.predict())
    assert not torch.allclose(*predictions)
    start = TrunkCache(model).predict()
    assert not torch.allclose(predictions[0], start)


def test_sentence_by_sentence_equals_all_at_once(sllm):
    model = sllm()
    sentences = [[5, 6, 7], [9], [11, 12, 13, 14]]
    with torch.no_grad():
        stepwise, at_once = TrunkCache(model), TrunkCache(model)
        for sentence in sentences:
            stepwise.add([0], latents(model, [sentence]))
        at_once.add([0], latents(model, sentences))
    assert torch.allclose(stepwise.predict(), at_once.predict(), atol=1e-12)


def test_context_is_bounded(sllm):
    model = never_stop(sllm(context_sentences=4))
    assert len(list(generate(model, [[3]] * 9, GenerateConfig(max_sentences=12)))) == 12


DECODERS = {
    "paper": {},
    "norm-first": {"norm_first": True},
    "llama": {"block": "llama"},
    "sliding": {"block": "llama", "decoder_window": 9},
    "wide": {"block": "llama", "decoder_window": 100},
    "prefix": {"block": "llama", "conditioning": "prefix", "decoder_window": 9},
    "prefix-paper": {"conditioning": "prefix"},
    "head": {"conditioning": "none", "output_latent_scale": 0.5, "encoder_embedding": "output"},
    "head-sliding": {"block": "llama", "output_latent_scale": 0.5, "decoder_window": 9},
    "context-attention": {"context_attention_heads": 2},
    "context-attention-sliding": {"context_attention_heads": 4, "block": "llama", "decoder_window": 9},
    "state-attention": STATES,
    "window-alone": {**STATES, "state_attention_sentences": 0},
}


@pytest.mark.parametrize("vae", DECODERS.values(), ids=DECODERS)
def test_what_is_generated_is_likeliest_given_all_tokens_before(sllm, vae):
    """Generated side by side with caches; compared with the forward pass of training over the finished documents."""
    model = sllm(**vae)
    # A tied, untrained head would repeat its input for ever.
    model.vae.head.weight = torch.nn.Parameter(torch.randn(50, 32, dtype=torch.float64))
    with torch.no_grad():
        model.vae.head.weight[2] *= 2.5
    prompts = [[[5, 6, 7], [9], [11, 12, 13, 14]], [], [[8] * 12, [7] * 5, [9, 4, 3]], [[30]]]
    config = GenerateConfig(max_sentences=7, max_sentence_tokens=11, max_tokens=60)
    documents = [list(prompt) for prompt in prompts]
    for document, sentence in generate_documents(model, prompts, config, may_stop=False):
        documents[document].append(sentence.token_ids)
    generated = {
        tuple(s) for document, prompt in zip(documents, prompts, strict=True) for s in document[len(prompt) :]
    }
    assert len(generated) > 5 and len({len(sentence) for sentence in generated}) > 1
    for document, prompt in zip(documents, prompts, strict=True):
        batch = pack(document)
        with torch.no_grad():
            logits = training_logits(model, batch)
        logits[:, 1] = -torch.inf
        left = config.max_tokens
        for sentence_index in range(len(prompt), len(document)):
            own = logits[batch.decoded.positions.sequence_T == sentence_index]
            own[0, 2] = -torch.inf
            sentence = document[sentence_index]
            ids = sentence if len(sentence) == min(11, left) else [*sentence, 2]
            assert own.argmax(-1)[: len(ids)].tolist() == ids
            left -= len(sentence)


class Given:
    """In place of a sampler: given tokens, of each document in turn; keeps the logits."""

    def __init__(self, documents):
        self.left = [[token for ids in document for token in [*ids, 2]] for document in documents]
        self.logits = [[] for _ in documents]

    def __call__(self, logits_BV):
        for own, logits_V in zip(self.logits, logits_BV, strict=True):
            own.append(logits_V)
        return torch.tensor([tokens.pop(0) if tokens else 2 for tokens in self.left])


@pytest.mark.parametrize("vae", DECODERS.values(), ids=DECODERS)
def test_logits_of_cached_generation_are_those_of_training(sllm, vae):
    """For sentences that are given, position by position, after prompts of other lengths."""
    model = sllm(**vae).requires_grad_(False)
    prompts = [[[5, 6, 7], [9], [11, 12, 13, 14]], [[8] * 12, [7] * 5]]
    sentences = [[[3, 4], [5] * 11, [6]], [[9, 8, 7], [20, 21], [22] * 9]]
    batch = pack(*prompts)
    latents_SH = model.encode(batch).latents_SH
    decoder = decoder_of(model, 2, 12)
    cache = TrunkCache(model, 2)
    decoder.read(batch, model.predict(latents_SH, batch)[0], [0, 1])
    cache.add([0, 1], latents_SH.split([3, 2]))
    generated = [[], []]
    for step in range(3):
        given = Given([[own[step]] for own in sentences])
        decoder.start([0, 1], cache.predict([0, 1]), [12, 12], [cache.earlier(0), cache.earlier(1)])
        assert decoder.generate(given) == {document: sentences[document][step] for document in (0, 1)}
        for document in (0, 1):
            ids = sentences[document][step]
            generated[document] += given.logits[document][: len(ids) + 1]
            by_itself = isinstance(decoder, StatesDecoder)
            new = [decoder.latents([document])] if by_itself else latents(model, [ids])
            cache.add([document], new)
    for document in (0, 1):
        whole = [*prompts[document], *sentences[document]]
        batch = pack(whole)
        positions = batch.decoded.positions
        expected = training_logits(model, batch)[positions.sequence_T >= len(prompts[document])]
        found = torch.stack(generated[document])
        allowed = torch.isfinite(found)  # no BOS, and no EOS at first
        assert allowed.sum() > 0.9 * allowed.numel()
        # Rotary angles are fp32.
        assert torch.allclose(found[allowed], expected[allowed], atol=1e-5 if "block" in vae else 1e-10)


@pytest.mark.parametrize("positions", [True, False], ids=["positions", "no positions"])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_cache_of_documents_at_different_positions_is_that_of_each_alone(sllm, trunk, positions):
    model = sllm(trunk, context_sentences=6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        together = TrunkCache(model, 3)
        alone = [TrunkCache(model) for _ in range(3)]
        together._takes_positions &= positions
        # Document 1 is longer than its context; 0 and 2 have other lengths beside it.
        for documents in ([1], [0, 1], [1, 2], [1], [0, 1, 2], [1, 2], [0, 1], [0, 1, 2]):
            new = [torch.randn(1 + (i == 2), 32, generator=generator, dtype=torch.float64) for i in documents]
            together.add(documents, new)
            for document, latents_MH in zip(documents, new, strict=True):
                alone[document].add([0], [latents_MH])
            for document in range(3):
                for read in ("predict", "stop_probability"):
                    mine = getattr(together, read)([document])
                    assert torch.allclose(mine, getattr(alone[document], read)(), atol=1e-12)
        together.keep([2, 1])
        assert torch.allclose(together.predict([0]), alone[2].predict(), atol=1e-12)


def test_documents_side_by_side_do_not_touch(sllm):
    model = sllm(block="llama", decoder_window=20)
    prompts = [[[5, 6, 7]], [[9]], [[11, 12]], [], [[4, 3], [7]], [[40] * 9, [3], [22, 21]]]
    config = GenerateConfig(max_sentences=4)
    together = sorted(
        (document, sentence.token_ids)
        for document, sentence in generate_documents(model, prompts, config, may_stop=False)
    )
    alone = [
        (i, sentence.token_ids)
        for i, prompt in enumerate(prompts)
        for _, sentence in generate_documents(model, [prompt], config, may_stop=False)
    ]
    assert together == sorted(alone)


def test_a_decoder_without_context_starts_each_sentence_afresh(sllm):
    vae = sllm().vae
    decoder = SentenceDecoder(vae, 2, 12)
    latent = torch.randn(1, 32, dtype=torch.float64)
    with torch.inference_mode():
        decoder.start([0], latent, [5])
        first = decoder.generate(Sampler())
        decoder.start([0], latent, [5])
        assert decoder.generate(Sampler()) == first
    assert first.keys() == {0} and len(first[0]) >= 1


def test_nucleus_keeps_the_likeliest():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    drawn = {int(Sampler(1.0, top_p, seed)(logits)) for top_p in (0.5,) for seed in range(50)}
    assert drawn == {0}
    assert len({int(Sampler(1.0, 1.0, seed)(logits)) for seed in range(200)}) > 2


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.4, 0.0, 0.35, 0.25, 0.0]).log().expand(4000, -1)
    counts = torch.bincount(Sampler(1.0, seed=3)(logits), minlength=5) / 4000
    assert counts[[1, 4]].tolist() == [0, 0]
    assert torch.allclose(counts, logits[0].exp(), atol=0.03)
