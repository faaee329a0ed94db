"""Writing sentences from latents, many documents side by side, with a key/value cache.

Shape suffixes: B documents, S sentences, R tokens and start marks (rows of the decoder), H hidden,
V vocabulary, W rows that a cache holds.
"""

import torch
from torch import Tensor

from pipeline.attention import Block, KeyValueCache, add_positions
from pipeline.batches import SentenceBatch
from pipeline.patterns import SlidingWindow, additive_mask
from pipeline.precision import at_least_fp32
from pipeline.sampling import Sampler
from pipeline.vae import SentenceVae


class SentenceDecoder:
    """The decoder of a SentenceVAE at work on B documents.

    Its cache holds what each row may see: of the paper's decoder the sentence so far, of one with
    `decoder_context_tokens` the last that many rows of the document.
    """

    def __init__(self, vae: SentenceVae, batch: int, max_sentence_tokens: int) -> None:
        config = vae.config
        self.vae, self.batch = vae, batch
        self.crosses_sentences = config.decoder_context_tokens > 0
        self.size = config.decoder_context_tokens or max_sentence_tokens
        head_size = config.hidden_size // config.num_heads
        weight = vae.embedding.weight
        self.caches = [
            KeyValueCache(batch, self.size, config.num_heads, head_size, weight) for _ in vae.decoder
        ]
        self.rows_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        self.places_W = torch.arange(self.size, device=weight.device)

    def read(self, batch: SentenceBatch, latents_SH: Tensor) -> None:
        """Fill the caches with sentences that are given (window D of the batch is document B), at once."""
        if not self.crosses_sentences:
            return
        pattern = self.vae.decoder_pattern(batch, keep=True)
        assert isinstance(pattern, SlidingWindow)
        self.vae.decode_hidden(latents_SH, batch, pattern)
        document_R = batch.window_S[batch.decoder_rows.sequence_T]
        self.rows_B = torch.bincount(document_R, minlength=self.batch)
        kept_R = pattern.positions_T >= (self.rows_B - self.size)[document_R]
        document_R, cell_R = document_R[kept_R], pattern.positions_T[kept_R] % self.size
        for cache, (k_RAK, v_RAK) in zip(self.caches, pattern.seen, strict=True):
            cache.keys_BAWK[document_R, :, cell_R] = k_RAK[kept_R]
            cache.values_BAWK[document_R, :, cell_R] = v_RAK[kept_R]

    def write(self, latents_BH: Tensor, limits_B: Tensor, sampler: Sampler) -> list[list[int]]:
        """A sentence of 1 to `limits_B` tokens for each document (0: it is passed over); end marks are left out.

        Sentences end at different steps; each time half of those still open have ended, they are put aside.
        """
        config = self.vae.config
        if not self.crosses_sentences:
            self.rows_B.zero_()
        open_B = torch.nonzero(limits_B > 0)[:, 0]
        caches = [cache[open_B] for cache in self.caches]
        rows_B, limits = self.rows_B[open_B], limits_B[open_B]
        told = [block.told(latents_BH[open_B]) for block in self._blocks()]
        going_B = torch.ones_like(open_B, dtype=torch.bool)
        token_B = torch.full_like(open_B, config.bos_token_id)
        sentences: list[list[int]] = [[] for _ in range(self.batch)]
        num_open, place = len(open_B), 0
        while num_open:
            logits_BV = self._step(token_B, caches, rows_B, told, place)
            rows_B = (
                rows_B + going_B
            )  # of ended sentences, whose row is not kept, the next write takes its cell
            token_B = sampler(logits_BV)
            going_B = going_B & (token_B != config.eos_token_id) & (limits > place)
            is_going = going_B.tolist()
            for document, token, goes in zip(open_B.tolist(), token_B.tolist(), is_going, strict=True):
                if goes:
                    sentences[document].append(token)
            place, num_open = place + 1, sum(is_going)
            if num_open <= len(open_B) // 2:
                self.rows_B[open_B] = rows_B
                for cache, part in zip(self.caches, caches, strict=True):
                    cache[open_B] = part
                open_B, rows_B, token_B = open_B[going_B], rows_B[going_B], token_B[going_B]
                caches = [cache[open_B] for cache in self.caches]
                told, limits = [told_BH[going_B] for told_BH in told], limits[going_B]
                going_B = going_B[going_B]
        return sentences

    def _blocks(self) -> list[Block]:
        return [block for block in self.vae.decoder if isinstance(block, Block)]

    def _step(
        self,
        token_B: Tensor,
        caches: list[KeyValueCache],
        rows_B: Tensor,
        told: list[Tensor],
        place: int,
    ) -> Tensor:
        """Logits after one more row of each document [B, V]."""
        config = self.vae.config
        cells_B = rows_B % self.size
        x_BH, rotation = self.vae.embedding(token_B), None
        if config.block == "paper":
            x_BH = add_positions(x_BH, torch.full_like(token_B, place), place + 1)
        else:
            x_BH, rotation = x_BH * config.hidden_size**0.5, self.vae.rotation(rows_B)
        mask_B11W = additive_mask((self.places_W <= rows_B[:, None])[:, None, None], x_BH.dtype)
        for block, cache, told_BH in zip(self._blocks(), caches, told, strict=True):
            x_BH = block.step(x_BH, cache, cells_B, mask_B11W, rotation, told_BH)
        logits_BV = at_least_fp32(self.vae.head(self.vae.decoder_norm(x_BH)))
        if place == 0:
            logits_BV[:, config.eos_token_id] = -torch.inf  # a sentence has at least one token
        if config.bos_token_id != config.eos_token_id:
            logits_BV[:, config.bos_token_id] = -torch.inf
        return logits_BV
