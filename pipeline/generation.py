"""Writing, sentence by sentence: what is written is read again before the next sentence is predicted.

Shape suffixes: B documents side by side, N sentences so far, H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.batches import SentenceBatch
from pipeline.config import GenerateConfig
from pipeline.decoding import SentenceDecoder
from pipeline.sampling import Sampler
from pipeline.sllm import Sllm

Document = Sequence[Sequence[int]]
"""Token ids of each of its sentences."""


@dataclass(frozen=True)
class GeneratedSentence:
    """One step of the sentence-level model."""

    token_ids: list[int]
    stop_probability: float
    """How sure the model is that the document ends after this sentence."""


class Memory:
    """What the trunk knows of B documents of equally many sentences: their latents, and its key/value cache."""

    def __init__(self, model: Sllm, batch: int = 1) -> None:
        self.model = model
        self.start_B1H = model.start_H.expand(batch, 1, -1)
        self.latents_BNH: Tensor = self.start_B1H[:, :0]
        self._restart()

    def add(self, latents_BNH: Tensor) -> None:
        """Read the next sentences. Past the context, the older half is forgotten."""
        self.latents_BNH = torch.cat([self.latents_BNH, latents_BNH], dim=1)
        if self.latents_BNH.shape[1] > self.model.config.context_sentences:
            keep = max(self.model.config.context_sentences // 2, 1)
            self.latents_BNH = self.latents_BNH[:, -keep:]
            self._restart()
            self._read(self.latents_BNH)
        elif latents_BNH.shape[1]:
            self._read(latents_BNH)

    def predict(self) -> Tensor:
        """Latent of the next sentence of each document [B, H]."""
        return self.model.from_trunk(self.hidden_BH)

    def stop_probability(self) -> Tensor:
        """Probability that each document ends here [B]."""
        return self.model.stop_head(self.hidden_BH)[:, 0].sigmoid()

    def _restart(self) -> None:
        self.cache = DynamicCache(config=self.model.trunk.config)
        self._read(self.start_B1H)

    def _read(self, latents_BNH: Tensor) -> None:
        hidden = self.model.trunk(
            inputs_embeds=self.model.to_trunk(latents_BNH), past_key_values=self.cache, use_cache=True
        )
        self.hidden_BH: Tensor = hidden.last_hidden_state[:, -1]


def generate(model: Sllm, prompt: Document, config: GenerateConfig) -> Iterator[GeneratedSentence]:
    """Sentences that go on from a prompt (none: from the start vector).

    Ends when the model stops (drawn from the stop probability, or at over one half when greedy), after
    `max_sentences`, or with the sentence in which `max_tokens` is reached, which is cut there.
    """
    for _document, sentence in generate_documents(model, [prompt], config):
        yield sentence


@torch.inference_mode()
def generate_documents(
    model: Sllm, prompts: Sequence[Document], config: GenerateConfig, may_stop: bool = True
) -> Iterator[tuple[int, GeneratedSentence]]:
    """Many documents side by side -> (document, sentence) as they are written.

    Documents whose prompts have equally many sentences are written together. Of a prompt only what fits the
    context is read. `may_stop=False` writes on to the limits whatever the model says, to measure speed.
    """
    model.eval()
    sampler = Sampler(config.temperature, config.top_p, config.seed)
    fitting = [prompt[-model.config.context_sentences :] for prompt in prompts]
    for count in sorted({len(prompt) for prompt in fitting}):
        group = [i for i, prompt in enumerate(fitting) if len(prompt) == count]
        writing = _write(model, [fitting[i] for i in group], config, sampler, may_stop)
        yield from ((group[place], sentence) for place, sentence in writing)


def _write(
    model: Sllm, prompts: list[Document], config: GenerateConfig, sampler: Sampler, may_stop: bool
) -> Iterator[tuple[int, GeneratedSentence]]:
    """Documents whose prompts have equally many sentences."""
    num_documents = len(prompts)
    longest = config.max_sentence_tokens or model.vae.config.max_sentence_tokens
    decoder = SentenceDecoder(model.vae, num_documents, longest)
    memory = _read_prompts(model, prompts, decoder)
    left_B = torch.full((num_documents,), config.max_tokens, device=model.start_H.device)
    for _ in range(config.max_sentences):
        written = decoder.write(memory.predict(), left_B.clamp(max=longest), sampler)
        wrote = [place for place, ids in enumerate(written) if ids]
        latents_B1H = torch.zeros_like(memory.start_B1H)
        latents_B1H[wrote, 0] = model.vae.encode(_pack(model, [[written[place]] for place in wrote]))
        memory.add(latents_B1H)
        stop_B = memory.stop_probability().cpu()
        draw_B = torch.full_like(stop_B, 0.5)
        if config.temperature > 0:
            draw_B = torch.rand(num_documents, generator=sampler.generator, dtype=stop_B.dtype)
        left_B -= torch.tensor([len(ids) for ids in written], device=left_B.device)
        if may_stop:
            left_B[(stop_B > draw_B).to(left_B.device)] = 0
        for place in wrote:
            yield place, GeneratedSentence(written[place], float(stop_B[place]))
        if not bool((left_B > 0).any()):
            return


def _read_prompts(model: Sllm, prompts: list[Document], decoder: SentenceDecoder) -> Memory:
    """The memory after the prompts; the decoder's own, where it crosses sentences, is filled too."""
    memory = Memory(model, len(prompts))
    if prompts[0]:
        batch = _pack(model, prompts)
        latents_SH = model.vae.encode(batch)
        predicted_SH, _ = model.predict(latents_SH, batch)
        decoder.read(batch, predicted_SH)
        memory.add(latents_SH[batch.sentences_DN])
    return memory


def _pack(model: Sllm, documents: Sequence[Document]) -> SentenceBatch:
    sentences = [sentence for document in documents for sentence in document]
    config = model.vae.config
    batch = SentenceBatch.pack(
        np.concatenate([np.asarray(ids, np.int64) for ids in sentences]),
        [len(ids) for ids in sentences],
        [len(document) for document in documents],
        bos_id=config.bos_token_id,
        eos_id=config.eos_token_id,
    )
    return batch.to(model.start_H.device)
