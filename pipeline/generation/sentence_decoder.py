"""Generation of sentences from latents, with a cache: many documents side by side, each at its own position.

The forward pass is `SentenceVae.decode`, as in training; each call takes one position of each document.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.generation.decoder_cache import (
    CachedPositions,
    DecoderCache,
    EarlierInDocuments,
    FillingCache,
    KeysAndLatents,
)
from pipeline.generation.sampling import Sampler
from pipeline.models.attention.context import ContextAttention
from pipeline.models.attention_patterns import SlidingWindow
from pipeline.models.blocks import LatentConditioning
from pipeline.models.precision import at_least_fp32
from pipeline.models.sentence_vae import SentenceVae
from pipeline.stream.batches import SentenceBatch


class SentenceDecoder:
    """The decoder of a SentenceVAE, with the state of the B documents that it generates.

    The cache holds the positions that a position attends to: the sentence so far, or with `decoder_window` that many
    last positions of the document.
    """

    def __init__(
        self,
        vae: SentenceVae,
        batch: int,
        max_sentence_tokens: int,
        context_attention: ContextAttention | None = None,
    ) -> None:
        config, weight = vae.config, vae.embedding.weight
        self.vae, self.context_attention = vae, context_attention
        self.crosses_sentences = config.decoder_window > 0
        self.num_positions = max_sentence_tokens + 1
        self.cache = DecoderCache(config, batch, config.decoder_window or max_sentence_tokens, weight)
        self.latents_BH = weight.new_zeros(batch, config.hidden_size)
        """Latent of each document's sentence."""
        self.conditioning = vae.condition(self.latents_BH)
        nothing_0H = weight.new_empty(0, config.hidden_size)
        self.earlier: list[KeysAndLatents] = [(nothing_0H, nothing_0H)] * batch
        """Earlier sentences of each document, for context attention."""
        self.cached_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        """Positions of each document so far; without `decoder_window` those of its sentence."""
        self.positions_B = torch.zeros_like(self.cached_B)
        """Position of the next input in its sentence."""
        self.limits_B = torch.zeros_like(self.cached_B)
        self.tokens_B = torch.zeros_like(self.cached_B)
        self.going_B = torch.zeros_like(self.cached_B, dtype=torch.bool)
        """Whether each document is in a sentence; the others wait."""
        self.sentences: list[list[int]] = [[] for _ in range(batch)]

    def read(self, batch: SentenceBatch, latents_SH: Tensor, documents: Sequence[int]) -> None:
        """Fill the cache with given sentences in one pass; window D of the batch is of `documents[D]`."""
        if not self.crosses_sentences:
            return
        window = self.vae.decoder_pattern(batch)
        assert isinstance(window, SlidingWindow)
        document_D = torch.tensor(documents, device=self.cached_B.device)
        filling = FillingCache(window, batch.decoded, self.cache, document_D)
        self.vae.decode_batch(latents_SH, batch, filling)
        self.cached_B[document_D] = filling.positions_D

    def start(
        self,
        documents: Sequence[int],
        latents_DH: Tensor,
        limits: Sequence[int],
        earlier: Sequence[KeysAndLatents] = (),
    ) -> None:
        """Begin a sentence of 1 to `limits` tokens in each of these documents; `earlier`: for context attention."""
        document_D = torch.tensor(documents, device=self.cached_B.device)
        self.latents_BH[document_D] = latents_DH
        if self.context_attention is not None:
            for document, sentences in zip(documents, earlier, strict=True):
                self.earlier[document] = sentences
        self._condition()
        if not self.crosses_sentences:
            self.cached_B[document_D] = 0
        self.positions_B[document_D] = 0
        self.limits_B[document_D] = torch.tensor(limits, device=document_D.device)
        self.tokens_B[document_D] = self.vae.config.bos_token_id
        self.going_B[document_D] = True
        for document in documents:
            self.sentences[document] = []

    def generate(self, sampler: Sampler, enough: int | None = None) -> dict[int, list[int]]:
        """Decode until `enough` documents have ended their sentence (None: all that began one) -> those sentences,
        without EOS."""
        going = {document for document, goes in enumerate(self.going_B.tolist()) if goes}
        ended: dict[int, list[int]] = {}
        while going and (enough is None or len(ended) < enough):
            self.tokens_B = sampler(self._logits())
            # A waiting document keeps nothing of this: its next position overwrites the same cell.
            self.cached_B += self.going_B
            self.going_B &= (self.tokens_B != self.vae.config.eos_token_id) & (
                self.positions_B < self.limits_B
            )
            self.positions_B += self.going_B
            tokens, goes = self.tokens_B.tolist(), self.going_B.tolist()
            for document in list(going):
                if goes[document]:
                    self.sentences[document].append(tokens[document])
                else:
                    ended[document] = self.sentences[document]
                    going.remove(document)
                    self._end(document)
        return ended

    def _end(self, document: int) -> None:
        """The document's sentence has ended with the last position of its cache."""

    def keep(self, documents: Sequence[int]) -> None:
        """Keep only these documents, as 0, 1, ..."""
        kept = torch.tensor(documents, device=self.cached_B.device)
        self.cache.keep(kept)
        self.latents_BH = self.latents_BH[kept]
        self.earlier = [self.earlier[document] for document in documents]
        self._condition()
        self.cached_B, self.positions_B = self.cached_B[kept], self.positions_B[kept]
        self.limits_B, self.tokens_B = self.limits_B[kept], self.tokens_B[kept]
        self.going_B = self.going_B[kept]
        self.sentences = [self.sentences[document] for document in documents]

    def _condition(self) -> None:
        """Values that are computed once per sentence."""
        self.conditioning = self.vae.condition(self.latents_BH)
        if self.context_attention is not None:
            self._earlier = EarlierInDocuments(self.earlier)

    def _decode(self, conditioning: LatentConditioning) -> Tensor:
        """The decoder's output [B, H] at one more position of each document."""
        pattern = CachedPositions(self.cache, self.cached_B, self.latents_BH.dtype)
        return self.vae.decode(
            self.tokens_B,
            self.positions_B,
            self.cache.document_B,
            conditioning,
            pattern,
            self.num_positions,
        )

    def _hidden(self) -> Tensor:
        """Input of the LM head [B, H] at one more position of each document."""
        hidden_BH = self._decode(self.conditioning)
        if self.context_attention is not None:
            hidden_BH = self.context_attention(hidden_BH, self._earlier)
        return hidden_BH

    def _logits(self) -> Tensor:
        """Logits [B, V] after one more position of each document."""
        config = self.vae.config
        logits_BV = at_least_fp32(self.vae.head(self._hidden()))
        # A sentence has at least one token.
        logits_BV[:, config.eos_token_id].masked_fill_(self.positions_B == 0, -torch.inf)
        if config.bos_token_id != config.eos_token_id:
            logits_BV[:, config.bos_token_id] = -torch.inf
        return logits_BV
