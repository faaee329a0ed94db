"""Sentences drafted by a shallow decoder and verified whole, in one pass, by a deep one (arXiv 2211.17192).

Lossless: the sentences have the distribution of the deep decoder, at temperature 0 they are its own (but for the
rounding of sums). Both decoders are given the same latents; the shallow one may be the first layers of the deep one.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.generation.decoder_cache import (
    CachedRun,
    DecoderCache,
    EarlierInDocument,
    FillingCache,
    KeysAndLatents,
)
from pipeline.generation.sampling import Sampler
from pipeline.generation.speculation import accepted
from pipeline.models.attention.context import ContextAttention
from pipeline.models.attention_patterns import SlidingWindow
from pipeline.models.precision import at_least_fp32
from pipeline.models.sentence_vae import SentenceVae
from pipeline.stream.batches import SentenceBatch


class DraftedDecoder:
    """In place of a `SentenceDecoder` for one document; its drafts have up to a whole sentence.

    Raises `ModelError` where the two decoders do not fit each other.
    """

    def __init__(
        self,
        vae: SentenceVae,
        drafter: SentenceVae,
        max_sentence_tokens: int,
        context_attention: ContextAttention | None = None,
        drafted: int | None = None,
    ) -> None:
        """`drafted`: largest number of tokens drafted for a pass; None: the rest of the sentence."""
        for name in ("hidden_size", "vocab_size", "bos_token_id", "eos_token_id"):
            own, other = getattr(vae.config, name), getattr(drafter.config, name)
            if own != other:
                raise ModelError(
                    f"the drafting decoder has {name} {other}, the model {own}: they must be equal"
                )
        self._vae, self._drafted = vae, drafted or max_sentence_tokens + 1
        self._deep = _Steps(vae, max_sentence_tokens, context_attention)
        self._shallow = _Steps(drafter, max_sentence_tokens, None)
        self._limit = 0
        self.passes = 0
        """Passes of the deep decoder so far."""

    def read(self, batch: SentenceBatch, latents_SH: Tensor, documents: Sequence[int]) -> None:
        """See `SentenceDecoder`."""
        self._deep.read(batch, latents_SH)
        self._shallow.read(batch, latents_SH)

    def start(
        self,
        documents: Sequence[int],
        latents_DH: Tensor,
        limits: Sequence[int],
        earlier: Sequence[KeysAndLatents] = (),
    ) -> None:
        """See `SentenceDecoder`."""
        (self._limit,) = limits
        for steps in (self._deep, self._shallow):
            steps.start(latents_DH, earlier)

    def generate(self, sampler: Sampler, enough: int | None = None) -> dict[int, list[int]]:
        """See `SentenceDecoder`."""
        eos = self._vae.config.eos_token_id
        inputs = [self._vae.config.bos_token_id]
        """BOS and the tokens so far."""
        while len(inputs) <= self._limit:
            drafts, rows = self._draft(inputs, sampler)
            read = drafts[:-1] if drafts[-1] == eos else drafts
            logits_NV = self._deep.logits([*inputs, *read])[-(len(read) + 1) :]
            self.passes += 1
            probabilities_NV = sampler.probabilities(logits_NV)
            if drafts[-1] == eos:  # nothing comes after it, but `accepted` adds a token
                probabilities_NV = torch.cat([probabilities_NV, probabilities_NV[-1:]])
            found = accepted(probabilities_NV, drafts, torch.cat(rows), sampler)
            ended = eos in found
            found = found[: found.index(eos)] if ended else found
            before, inputs = inputs, [*inputs, *found][: self._limit + 1]
            for steps in (self._deep, self._shallow):
                steps.take_back(before, drafts, inputs)
            if ended:
                break
        for steps in (self._deep, self._shallow):
            steps.end(inputs)
        return {0: inputs[1:]}

    def keep(self, documents: Sequence[int]) -> None:
        """See `SentenceDecoder`; there is only one document."""

    def _draft(self, inputs: list[int], sampler: Sampler) -> tuple[list[int], list[Tensor]]:
        """Tokens up to EOS or the limit, at least one, and the probabilities [1, V] of each."""
        drafts: list[int] = []
        rows: list[Tensor] = []
        while not drafts or (
            drafts[-1] != self._vae.config.eos_token_id
            and len(inputs) + len(drafts) <= self._limit
            and len(drafts) < self._drafted
        ):
            rows.append(sampler.probabilities(self._shallow.logits([*inputs, *drafts])[-1:]))
            drafts.append(int(sampler.draw(rows[-1])))
        return drafts, rows


class _Steps:
    """A decoder, with the positions that it has read of one document."""

    def __init__(self, vae: SentenceVae, longest: int, context_attention: ContextAttention | None) -> None:
        weight = vae.embedding.weight
        self.vae, self.context_attention = vae, context_attention
        self.window = vae.config.decoder_window
        room = longest + 2
        self.cache = DecoderCache(vae.config, 1, self.window + room, weight, self.window or room)
        self.num_positions = room
        self.first = 0
        """Position of the sentence's BOS in the document."""
        self.known = 0
        """Positions of the sentence that were read."""

    def read(self, batch: SentenceBatch, latents_SH: Tensor) -> None:
        """Fill the cache with given sentences."""
        if self.window:
            pattern = self.vae.decoder_pattern(batch)
            assert isinstance(pattern, SlidingWindow)
            filling = FillingCache(
                pattern, batch.decoded, self.cache, torch.tensor([0], device=latents_SH.device)
            )
            self.vae.decode_batch(latents_SH, batch, filling)
            self.first = int(filling.positions_D[0])

    def start(self, latents_1H: Tensor, earlier: Sequence[KeysAndLatents]) -> None:
        """Begin a sentence."""
        self.known = 0
        self.conditioning = self.vae.condition(latents_1H)
        if self.context_attention is not None:
            self.earlier = EarlierInDocument(earlier[0])

    def logits(self, inputs: Sequence[int]) -> Tensor:
        """Logits [R, V] after those of `inputs`, BOS and tokens, that were not read."""
        config, device = self.vae.config, self.vae.embedding.weight.device
        positions_R = torch.arange(self.known, len(inputs), device=device)
        tokens_R = torch.tensor(inputs[self.known :], device=device)
        self.known = len(inputs)
        pattern = CachedRun(self.cache, positions_R + self.first, self.vae.embedding.weight.dtype)
        hidden_RH = self.vae.decode(
            tokens_R,
            positions_R,
            torch.zeros_like(positions_R),
            self.conditioning,
            pattern,
            self.num_positions,
        )
        if self.context_attention is not None:
            hidden_RH = self.context_attention(hidden_RH, self.earlier)
        logits_RV = at_least_fp32(self.vae.head(hidden_RH))
        # A sentence has at least one token.
        logits_RV[:, config.eos_token_id].masked_fill_(positions_R == 0, -torch.inf)
        if config.bos_token_id != config.eos_token_id:
            logits_RV[:, config.bos_token_id] = -torch.inf
        return logits_RV

    def take_back(self, before: Sequence[int], drafts: Sequence[int], inputs: Sequence[int]) -> None:
        """Forget the positions of drafts that are not in `inputs`."""
        read = [*before, *drafts][: self.known]
        right = len(before)
        while right < min(len(read), len(inputs)) and read[right] == inputs[right]:
            right += 1
        self.known = right if self.known > len(before) else self.known

    def end(self, inputs: Sequence[int]) -> None:
        """The sentence is complete: across sentences all of its positions are read."""
        if not self.window:
            return
        if self.known < len(inputs):
            self.logits(inputs)
        self.first += len(inputs)


def first_decoder_layers(vae: SentenceVae, count: int) -> SentenceVae:
    """A SentenceVAE with the first layers of the decoder alone, for drafts: its weights, not copies of them."""
    shared = {id(one): one for one in (*vae.parameters(), *vae.buffers())}
    small = copy.deepcopy(vae, shared)
    del small.decoder[count:]
    return small
