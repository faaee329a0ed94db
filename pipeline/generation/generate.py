"""Generation, sentence by sentence: each generated sentence is encoded before the next one is predicted.

Many documents are generated side by side. A document whose sentence has ended waits until some others have ended
theirs, passes encoder and trunk together with them, and continues while the rest are still decoding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import GenerateConfig
from pipeline.errors import ModelError
from pipeline.generation.drafted_sentences import DraftedDecoder
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.states_decoder import StatesDecoder, decoder_of
from pipeline.generation.trunk_cache import TrunkCache
from pipeline.models.sentence_vae import SentenceVaeConfig, check_longest
from pipeline.models.sllm import Sllm
from pipeline.stream.batches import SentenceBatch

Prompt = Sequence[Sequence[int]]
"""Token ids of each of its sentences."""
Decoder = SentenceDecoder | DraftedDecoder

WAITING_SHARE = 1 / 2
"""Share of the documents that may wait at the end of a sentence. More waiting means fewer and larger passes of encoder
and trunk, but positions of waiting documents are computed and dropped."""


@dataclass(frozen=True)
class GeneratedSentence:
    """One step of the sentence-level model."""

    token_ids: list[int]
    stop_probability: float
    """Probability that the document ends after this sentence."""


def generate(model: Sllm, prompt: Prompt, config: GenerateConfig) -> Iterator[GeneratedSentence]:
    """Sentences that continue a prompt; without one they begin from the start vector.

    Ends when the model stops (sampled from the stop probability; greedy: above one half), after `max_sentences`, or at
    `max_tokens`, which may cut the last sentence.
    """
    for _document, sentence in generate_documents(model, [prompt], config):
        yield sentence


@torch.inference_mode()
def generate_documents(
    model: Sllm,
    prompts: Sequence[Prompt],
    config: GenerateConfig,
    may_stop: bool = True,
    sampler: Sampler | None = None,
    lengths: Iterator[int] | None = None,
    decoder: Decoder | None = None,
) -> Iterator[tuple[int, GeneratedSentence]]:
    """Many documents side by side -> (document, sentence) as they are generated.

    Only the end of a prompt that fits the context is read. To measure speed, `may_stop=False` generates up to the
    limits, and `lengths` are the largest numbers of tokens of the sentences as they begin; `sampler` replaces that of
    `config`. `decoder`: in place of a `SentenceDecoder`. Raises `ModelError` for sentences over the model's limit.
    """
    model.eval()
    sampler = sampler or Sampler(config.temperature, config.top_p, config.seed)
    longest = config.max_sentence_tokens or model.vae.config.max_sentence_tokens
    if longest > model.vae.config.max_sentence_tokens:
        raise ModelError(
            f"generate.max_sentence_tokens={longest}: the model ends each sentence after "
            f"{model.vae.config.max_sentence_tokens} tokens; set it to that or less, or leave it out"
        )
    if model.reads_itself and isinstance(decoder, DraftedDecoder):
        raise ModelError("no sentences are drafted for a model with sllm.state_attention_sentences")
    decoder = decoder or decoder_of(model, len(prompts), longest)
    cache = TrunkCache(model, len(prompts))
    _read_prompts(model, [prompt[-model.config.context_sentences :] for prompt in prompts], cache, decoder)
    names = list(range(len(prompts)))  # of the documents in the batch
    tokens_left = [config.max_tokens] * len(names)
    sentences_left = [config.max_sentences] * len(names)
    going = starting = list(range(len(names)))
    while going:
        if starting:
            ends = [longest if lengths is None else min(next(lengths), longest) for _ in starting]
            limits = [min(tokens_left[document], end) for document, end in zip(starting, ends, strict=True)]
            earlier = [cache.earlier(document) for document in starting]
            decoder.start(starting, cache.predict(starting), limits, earlier)
        generated = decoder.generate(sampler, max(1, int(len(going) * WAITING_SHARE)))
        ended = list(generated)
        if isinstance(decoder, StatesDecoder):
            latents_SH = decoder.latents(ended)
        else:
            latents_SH = model.vae.encode(_pack(model, [[ids] for ids in generated.values()]))
        cache.add(ended, latents_SH.split(1))
        stop_S = cache.stop_probability(ended).cpu()
        draw_S = torch.full_like(stop_S, 0.5)
        if config.temperature > 0:
            draw_S = torch.rand(len(ended), generator=sampler.generator, dtype=stop_S.dtype)
        for document, probability in zip(ended, stop_S.tolist(), strict=True):
            tokens_left[document] -= len(generated[document])
            sentences_left[document] -= 1
            yield names[document], GeneratedSentence(generated[document], probability)
        stops = (stop_S > draw_S).tolist()
        starting = [
            document
            for document, stop in zip(ended, stops, strict=True)
            if tokens_left[document] > 0 and sentences_left[document] > 0 and not (may_stop and stop)
        ]
        going = [document for document in going if document in starting or document not in ended]
        if going and len(going) <= len(names) // 2:
            cache.keep(going)
            decoder.keep(going)
            starting = [going.index(document) for document in starting]
            names, tokens_left, sentences_left = (
                [values[document] for document in going] for values in (names, tokens_left, sentences_left)
            )
            going = list(range(len(names)))


def _read_prompts(model: Sllm, prompts: Sequence[Prompt], cache: TrunkCache, decoder: Decoder) -> None:
    """Fill the cache of the trunk, and that of a decoder that attends to earlier sentences."""
    documents = [document for document, prompt in enumerate(prompts) if prompt]
    if not documents:
        return
    batch = _pack(model, [prompts[document] for document in documents])
    check_longest(batch.longest_sentence, model.vae.config.max_sentence_tokens, "the prompt: ")
    latents_SH = model.encode(batch).latents_SH
    predicted_SH, _ = model.predict(latents_SH, batch)
    decoder.read(batch, predicted_SH, documents)
    cache.add(documents, latents_SH.split([len(prompts[document]) for document in documents]))


def pack(config: SentenceVaeConfig, documents: Sequence[Prompt], device: torch.device) -> SentenceBatch:
    """A batch of whole documents, each of at least one sentence."""
    sentences = [sentence for document in documents for sentence in document]
    batch = SentenceBatch.pack(
        np.concatenate([np.asarray(ids, np.int64) for ids in sentences]),
        [len(ids) for ids in sentences],
        [len(document) for document in documents],
        bos_id=config.bos_token_id,
        eos_id=config.eos_token_id,
    )
    return batch.to(device)


def _pack(model: Sllm, documents: Sequence[Prompt]) -> SentenceBatch:
    return pack(model.vae.config, documents, model.start_H.device)
