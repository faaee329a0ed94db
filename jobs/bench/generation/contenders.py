"""Models with random weights, and how each generates after a context of a given length."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from pipeline.config import Config, GenerateConfig
from pipeline.generation.generate import Prompt, generate_documents
from pipeline.generation.preallocated import layers_of_cache, preallocated_cache, remove_last
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.single_query import use_single_query
from pipeline.generation.states_decoder import decoder_of
from pipeline.generation.token_lm import next_tokens
from pipeline.generation.trunk_cache import TrunkCache
from pipeline.generation.weights import Weights, prepare_weights
from pipeline.models.build import build_lm, build_sllm
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm

Model = TypeVar("Model", TokenLm, Sllm)
FIRST_ID = 3
"""The first token id that is neither padding, BOS nor EOS."""


def clock() -> float:
    """Seconds of the wall clock; with one thread its CPU seconds, so that other processes do not count."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass(frozen=True)
class Timing:
    """One run of a contender: `batch` documents after a context."""

    tokens: int
    """Of all documents, without BOS, EOS and padding."""
    seconds: float
    """For these, after the context was read; in a sentence-level model after the first sentence."""
    prefill: float | None
    """Seconds to read the context; None: random keys and values stand for it."""
    first_token: float | None
    """Seconds from the start to the first token, and to the first whole sentence."""
    first_sentence: float | None
    context_bytes: int
    """Of the caches, per document, for the context alone."""


class Contender(Protocol):
    """A model and a way to generate with it."""

    def run(self, batch: int, context: int, tokens: int) -> Timing:
        """Generate about `tokens` tokens in each document after `context` tokens."""


def random_model(build: Callable[[], Model], weights: Weights) -> Model:
    """A model built on the meta device, with random weights in the precision of `weights`, for generation alone."""
    with torch.device("meta"):
        model = build()
    if weights != "fp32":
        for parameter in model.parameters():  # before memory is allocated
            parameter.data = parameter.data.bfloat16()
    model.to_empty(device="cpu")
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02
    for name, parameter in model.named_parameters():
        values = parameter.data.view(-1)
        if parameter.dim() < 2:
            values.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        else:  # fast, since it is the same numbers over and over
            for start in range(0, len(values), len(block)):
                part = values[start : start + len(block)]
                part.copy_(block[: len(part)])
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.tie_weights()
            for child in module.modules():
                if "RotaryEmbedding" in type(child).__name__:  # its frequencies are no parameters
                    module._init_weights(child)
    prepare_weights(model, weights)
    use_single_query(model.model if isinstance(model, TokenLm) else model.trunk)
    return model.eval().requires_grad_(False)


def token_lm(config: Config, layers: int | None = None) -> Callable[[], TokenLm]:
    """The trunk as token-level model; `layers`: with so many of its layers."""

    def build() -> TokenLm:
        if layers is None:
            return build_lm(config, None, read_weights=False)
        trunk = config.trunk.model_copy(
            update={"config": {**config.trunk.config, "num_hidden_layers": layers}, "path": None}
        )
        return build_lm(config.model_copy(update={"trunk": trunk}), None, read_weights=False)

    return build


def sllm(config: Config) -> Callable[[], Sllm]:
    """The sentence-level model."""
    return lambda: build_sllm(config, None, read_weights=False)


def random_prompt(vocab_size: int, lengths: Iterator[int], tokens: int, seed: int) -> list[list[int]]:
    """Sentences of random ids with about `tokens` tokens in all."""
    rng, sentences, left = np.random.default_rng(seed), [], tokens
    while left > 0:
        length = min(next(lengths), left)
        sentences.append(rng.integers(FIRST_ID, vocab_size, length).tolist())
        left -= length
    return sentences


class OwnLoop:
    """A token-level model in our own loop, with a cache that is allocated once."""

    def __init__(self, model: TokenLm, tokens_per_sentence: float, prefill_up_to: int) -> None:
        self.model, self.tokens_per_sentence, self.prefill_up_to = model, tokens_per_sentence, prefill_up_to
        self.weight = next(model.parameters())

    @torch.inference_mode()
    def run(self, batch: int, context: int, tokens: int) -> Timing:
        """See `Contender`."""
        vocabulary = self.model.model.config.vocab_size
        ids_BT = torch.randint(
            FIRST_ID, vocabulary, (batch, context), generator=torch.Generator().manual_seed(0)
        )
        prefill, cache = None, preallocated_cache(self.model.model.config, context + tokens + 1)
        if context <= self.prefill_up_to:
            start = clock()
            steps = next_tokens(self.model, ids_BT, context + tokens + 1, (), Sampler(), cache)
            next(steps)
            prefill = clock() - start
        else:
            fill(cache, self.model, batch, context - 1)
            steps = next_tokens(self.model, ids_BT[:, -1:], context + tokens + 1, (), Sampler(), cache)
            next(steps)
        kept = sum(2 * layer.used()[0].numel() for layer in layers_of_cache(cache)) // batch
        start = clock()
        for _ in range(tokens):
            next(steps)
        seconds = clock() - start
        sentence = None if prefill is None else prefill + seconds / tokens * (self.tokens_per_sentence - 1)
        kept_bytes = kept * self.weight.element_size()
        return Timing(batch * tokens, seconds, prefill, prefill, sentence, kept_bytes)

    @torch.inference_mode()
    def verification(self, context: int, drafted: int, repeats: int) -> float:
        """Seconds of a pass over `drafted` tokens and the one before them, over those of a pass over one token."""
        seconds: dict[int, list[float]] = {1: [], drafted + 1: []}
        cache = preallocated_cache(self.model.model.config, context + drafted + 2)
        fill(cache, self.model, 1, context)
        for _ in range(repeats + 1):
            for count, taken in seconds.items():
                ids = torch.randint(FIRST_ID, self.model.model.config.vocab_size, (1, count))
                start = clock()
                self.model.model(input_ids=ids, past_key_values=cache, use_cache=True).logits.argmax(-1)
                taken.append(clock() - start)
                remove_last(cache, count)
        return min(seconds[drafted + 1]) / min(seconds[1])


class HuggingFace:
    """A token-level model in `generate` of Hugging Face, with its own cache."""

    def __init__(self, model: TokenLm) -> None:
        self.model, self.weight = model, next(model.parameters())
        assert model.model.generation_config is not None
        model.model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def run(self, batch: int, context: int, tokens: int) -> Timing:
        """See `Contender`."""
        ids_BT = torch.full((batch, context + 1), FIRST_ID)
        cache = DynamicCache(config=self.model.model.config)
        fill(cache, self.model, batch, context)
        start = clock()
        causal_lm: Any = self.model.model
        causal_lm.generate(
            input_ids=ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            past_key_values=cache,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        seconds = clock() - start
        return Timing(batch * tokens, seconds, None, None, None, 0)


class SentenceLevel:
    """A sentence-level model whose sentences have given lengths."""

    def __init__(self, model: Sllm, lengths: Callable[[], Iterator[int]]) -> None:
        self.model, self.lengths = model, lengths

    def run(self, batch: int, context: int, tokens: int) -> Timing:
        """See `Contender`; each document first generates a sentence, which is not counted."""
        model, lengths = self.model, self.lengths()
        vocabulary, longest = model.vae.config.vocab_size, model.vae.config.max_sentence_tokens
        own = (min(length, longest) for length in lengths)
        prompts: list[Prompt] = [random_prompt(vocabulary, own, context, seed) for seed in range(batch)]
        config = GenerateConfig(max_tokens=10**9, max_sentences=10**9)
        decoder = decoder_of(model, batch, longest)
        sampler = _NoEos(decoder)
        start = clock()
        steps = generate_documents(
            model, prompts, config, may_stop=False, sampler=sampler, lengths=own, decoder=decoder
        )
        begun: set[int] = set()
        first_sentence, before, since = None, 0, 0.0
        for document, _ in steps:
            first_sentence = first_sentence or clock() - start
            if len(begun) == batch and sampler.tokens - before >= batch * tokens:
                break
            begun.add(document)
            if since == 0.0 and len(begun) == batch:
                since, before = clock(), sampler.tokens
        generated = sampler.tokens - before
        assert sampler.first is not None
        seconds, first = clock() - since, sampler.first - start
        return Timing(generated, seconds, first, first, first_sentence, _context_bytes(model, prompts[0]))


class _NoEos(Sampler):
    """Greedy, without EOS; counts the tokens of text, and keeps when the first one was there."""

    def __init__(self, decoder: SentenceDecoder) -> None:
        super().__init__()
        self.decoder, self.tokens = decoder, 0
        self.first: float | None = None

    def __call__(self, logits_BV: Tensor) -> Tensor:
        decoder = self.decoder
        logits_BV[:, decoder.vae.config.eos_token_id] = -torch.inf
        self.tokens += int((decoder.going_B & (decoder.positions_B < decoder.limits_B)).sum())
        token_B = super().__call__(logits_BV)
        self.first = self.first or clock()
        return token_B


def fill(cache: DynamicCache, model: TokenLm, batch: int, tokens: int) -> None:
    """Random keys and values in place of a context that was read."""
    probe = preallocated_cache(model.model.config, 2)
    model.model(input_ids=torch.full((1, 1), FIRST_ID), past_key_values=probe, use_cache=True)
    for index, layer in enumerate(layers_of_cache(probe)):
        keys, _ = layer.used()
        _, heads, _, size = keys.shape
        states = torch.randn(batch, heads, tokens, size).to(keys.dtype)
        cache.update(states, states, index)


def _context_bytes(model: Sllm, prompt: Prompt) -> int:
    """Of latents, keys and values that are kept of a prompt's sentences."""
    cache = TrunkCache(model)
    layers = sum(keys[:, :, 0].numel() + values[:, :, 0].numel() for keys, values in cache._layers)
    latents = 1 if model.context_attention is None else 2
    per_sentence = layers + latents * model.vae.config.hidden_size
    return len(prompt) * per_sentence * model.start_H.element_size()
