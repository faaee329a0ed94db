"""Writing, sentence by sentence: what is written is read again before the next sentence is predicted.

Shape suffixes: N sentences so far, H hidden size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.batches import SentenceBatch
from pipeline.config import GenerateConfig
from pipeline.sampling import Sampler
from pipeline.sllm import Sllm


@dataclass(frozen=True)
class GeneratedSentence:
    """One step of the sentence-level model."""

    token_ids: list[int]
    stop_probability: float
    """How sure the model is that the document ends after this sentence."""


class Memory:
    """What the trunk knows of the sentences so far: their latents, and its key/value cache over them."""

    def __init__(self, model: Sllm) -> None:
        self.model = model
        self.latents_NH: Tensor = model.start_H[None][:0]
        self._restart()

    def add(self, latents_NH: Tensor) -> None:
        """Read the next sentences. Past the context, the older half is forgotten."""
        self.latents_NH = torch.cat([self.latents_NH, latents_NH])
        if len(self.latents_NH) > self.model.config.context_sentences:
            keep = max(self.model.config.context_sentences // 2, 1)
            self.latents_NH = self.latents_NH[-keep:]
            self._restart()
            self._read(self.latents_NH)
        elif len(latents_NH):
            self._read(latents_NH)

    def predict(self) -> Tensor:
        """Latent of the next sentence [1, H]."""
        return self.model.from_trunk(self.hidden_1H)

    def stop_probability(self) -> float:
        """Probability that the document ends here."""
        return float(self.model.stop_head(self.hidden_1H).sigmoid())

    def _restart(self) -> None:
        self.cache = DynamicCache(config=self.model.trunk.config)
        self._read(self.model.start_H[None])

    def _read(self, latents_NH: Tensor) -> None:
        inputs_1NH = self.model.to_trunk(latents_NH)[None]
        hidden = self.model.trunk(inputs_embeds=inputs_1NH, past_key_values=self.cache, use_cache=True)
        self.hidden_1H: Tensor = hidden.last_hidden_state[:, -1]


@torch.inference_mode()
def generate(model: Sllm, prompt: list[list[int]], config: GenerateConfig) -> Iterator[GeneratedSentence]:
    """Sentences that go on from a prompt (token ids of its sentences; none: from the start vector).

    Ends when the model stops (drawn from the stop probability, or at over one half when greedy), after
    `max_sentences`, or with the sentence in which `max_tokens` is reached, which is cut there.
    """
    model.eval()
    sampler = Sampler(config.temperature, config.top_p, config.seed)
    memory = Memory(model)
    if prompt:
        memory.add(encode_sentences(model, prompt))
    left = config.max_tokens
    longest = config.max_sentence_tokens or model.vae.config.max_sentence_tokens
    for _ in range(config.max_sentences):
        (token_ids,) = model.vae.decode(memory.predict(), min(longest, left), sampler)
        memory.add(encode_sentences(model, [token_ids]))
        left -= len(token_ids)
        stop = memory.stop_probability()
        yield GeneratedSentence(token_ids, stop)
        draw = 0.5 if config.temperature == 0 else float(torch.rand((), generator=sampler.generator))
        if left <= 0 or stop > draw:
            return


def encode_sentences(model: Sllm, sentences: list[list[int]]) -> Tensor:
    """Latents [N, H] of sentences given as token ids, each of at least one."""
    vae = model.vae
    batch = SentenceBatch.pack(
        np.concatenate([np.asarray(ids, np.int64) for ids in sentences]),
        [len(ids) for ids in sentences],
        [len(sentences)],
        bos_id=vae.config.bos_token_id,
        eos_id=vae.config.eos_token_id,
    )
    return vae.encode(batch.to(model.start_H.device))
