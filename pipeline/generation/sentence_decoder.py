"""Writing sentences from latents, many documents side by side, each at its own place, with a key/value cache.

Shape suffixes: B documents, D those of them that are told of, S sentences, R tokens and start marks (rows of the
decoder), H hidden, V vocabulary, W rows that a cache holds.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.generation.sampling import Sampler
from pipeline.models.attention_patterns import SlidingWindow, additive_mask
from pipeline.models.blocks import Block, KeyValueCache, add_positions
from pipeline.models.context_attention import SentenceLookup
from pipeline.models.precision import at_least_fp32
from pipeline.models.sentence_vae import SentenceVae
from pipeline.stream.batches import SentenceBatch

Known = tuple[Tensor, Tensor]
"""Keys and latents [N, H] of a document's sentences, for a lookup."""


class SentenceDecoder:
    """The decoder of a SentenceVAE at work on B documents.

    Its cache holds what each row may see: of the paper's decoder the sentence so far, of one with
    `decoder_window` the last that many rows of the document.
    """

    def __init__(
        self, vae: SentenceVae, batch: int, max_sentence_tokens: int, lookup: SentenceLookup | None = None
    ) -> None:
        config = vae.config
        self.vae, self.lookup = vae, lookup
        self.crosses_sentences = config.decoder_window > 0
        self.longest = max_sentence_tokens
        self.size = config.decoder_window or max_sentence_tokens
        weight = vae.embedding.weight
        head_size = config.hidden_size // config.num_heads
        self.blocks = [block for block in vae.decoder if isinstance(block, Block)]
        self.caches = [
            KeyValueCache(batch, self.size, config.num_heads, head_size, weight) for _ in self.blocks
        ]
        self.tellers: dict[str, Callable[[Tensor], Tensor]] = {}
        """What turns a latent into what is added: to each row in a block, to a sentence's first row, for the head."""
        if config.conditioning == "cross_attention":
            self.tellers |= {f"block {i}": block.told for i, block in enumerate(self.blocks)}
        if vae.latent_prefix is not None:
            self.tellers["prefix"] = vae.latent_prefix
        if vae.latent_head is not None:
            self.tellers["head"] = vae.latent_head
        self.told = {name: weight.new_zeros(batch, config.hidden_size) for name in self.tellers}
        nothing_0H = weight.new_empty(0, config.hidden_size)
        self.known: list[Known] = [(nothing_0H, nothing_0H)] * batch
        """What each document can look up."""
        self.visible_W = torch.arange(self.size, device=weight.device)
        self.rows_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        """Rows of each document so far, of a decoder that does not cross sentences those of its sentence."""
        self.places_B = torch.zeros_like(self.rows_B)
        """Place of the next row in its sentence."""
        self.limits_B = torch.zeros_like(self.rows_B)
        self.tokens_B = torch.zeros_like(self.rows_B)
        self.going_B = torch.zeros_like(self.rows_B, dtype=torch.bool)
        """Whether each document is in a sentence; the others wait."""
        self.sentences: list[list[int]] = [[] for _ in range(batch)]

    def read(self, batch: SentenceBatch, latents_SH: Tensor, documents: Sequence[int]) -> None:
        """Fill the caches with sentences that are given, at once; window D of the batch is of `documents[D]`."""
        if not self.crosses_sentences:
            return
        pattern = self.vae.decoder_pattern(batch, keep=True)
        assert isinstance(pattern, SlidingWindow)
        self.vae.decode_hidden(latents_SH, batch, pattern)
        window_R = batch.window_S[batch.decoder_rows.sequence_T]
        rows_D = torch.bincount(window_R, minlength=len(documents))
        document_D = torch.tensor(documents, device=rows_D.device)
        self.rows_B[document_D] = rows_D
        kept_R = pattern.positions_T >= (rows_D - self.size)[window_R]
        document_R, cell_R = document_D[window_R[kept_R]], pattern.positions_T[kept_R] % self.size
        for cache, (k_RAK, v_RAK) in zip(self.caches, pattern.seen, strict=True):
            cache.keys_BAWK[document_R, :, cell_R] = k_RAK[kept_R]
            cache.values_BAWK[document_R, :, cell_R] = v_RAK[kept_R]

    def start(
        self,
        documents: Sequence[int],
        latents_DH: Tensor,
        limits: Sequence[int],
        known: Sequence[Known] = (),
    ) -> None:
        """Begin a sentence of 1 to `limits` tokens in each of these documents; `known`: what each can look up."""
        document_D = torch.tensor(documents, device=self.rows_B.device)
        for name, tell in self.tellers.items():
            self.told[name][document_D] = tell(latents_DH)
        if self.lookup is not None:
            for document, sentences in zip(documents, known, strict=True):
                self.known[document] = sentences
            self._remember()
        if not self.crosses_sentences:
            self.rows_B[document_D] = 0
        self.places_B[document_D] = 0
        self.limits_B[document_D] = torch.tensor(limits, device=document_D.device)
        self.tokens_B[document_D] = self.vae.config.bos_token_id
        self.going_B[document_D] = True
        for document in documents:
            self.sentences[document] = []

    def write(self, sampler: Sampler, enough: int | None = None) -> dict[int, list[int]]:
        """Go on until `enough` documents have ended their sentence (none: all that began one) -> those sentences,
        without end marks."""
        going = {document for document, goes in enumerate(self.going_B.tolist()) if goes}
        ended: dict[int, list[int]] = {}
        while going and (enough is None or len(ended) < enough):
            self.tokens_B = sampler(self._step())
            # Of a document that waits the row is not kept: the next one takes its cell.
            self.rows_B += self.going_B
            self.going_B &= (self.tokens_B != self.vae.config.eos_token_id) & (self.places_B < self.limits_B)
            self.places_B += self.going_B
            tokens, goes = self.tokens_B.tolist(), self.going_B.tolist()
            for document in list(going):
                if goes[document]:
                    self.sentences[document].append(tokens[document])
                else:
                    ended[document] = self.sentences[document]
                    going.remove(document)
        return ended

    def keep(self, documents: Sequence[int]) -> None:
        """Forget all other documents; these are 0, 1, ... from now on."""
        kept = torch.tensor(documents, device=self.rows_B.device)
        self.caches = [cache[kept] for cache in self.caches]
        self.known = [self.known[document] for document in documents]
        if self.lookup is not None:
            self._remember()
        self.told = {name: told_BH[kept] for name, told_BH in self.told.items()}
        self.rows_B, self.places_B = self.rows_B[kept], self.places_B[kept]
        self.limits_B, self.tokens_B = self.limits_B[kept], self.tokens_B[kept]
        self.going_B = self.going_B[kept]
        self.sentences = [self.sentences[document] for document in documents]

    def _remember(self) -> None:
        """Keys and values of what is known, and what each document may see of them."""
        assert self.lookup is not None
        lengths_B = torch.tensor([len(latents_NH) for _, latents_NH in self.known], device=self.rows_B.device)
        keys_BNH, latents_BNH = (
            pad_sequence(list(each), batch_first=True) for each in zip(*self.known, strict=True)
        )
        self.known_keys_BANK, self.known_values_BANK = self.lookup.remember(keys_BNH, latents_BNH)
        sentences_N = torch.arange(self.known_keys_BANK.shape[2], device=lengths_B.device)
        sees_B11N = (sentences_N <= lengths_B[:, None])[:, None, None]
        self.knows_B11N = additive_mask(sees_B11N, latents_BNH.dtype)

    def _step(self) -> Tensor:
        """Logits after one more row of each document [B, V]."""
        config = self.vae.config
        cells_B = self.rows_B % self.size
        x_BH, rotation = self.vae.embedding(self.tokens_B), None
        if config.block == "paper":
            x_BH = add_positions(x_BH, self.places_B, self.longest + 1)
        else:
            x_BH, rotation = x_BH * config.hidden_size**0.5, self.vae.rotation(self.rows_B)
        mask_B11W = additive_mask((self.visible_W <= self.rows_B[:, None])[:, None, None], x_BH.dtype)
        if "prefix" in self.told:
            x_BH = x_BH + self.told["prefix"] * (self.places_B == 0)[:, None]
        for i, (block, cache) in enumerate(zip(self.blocks, self.caches, strict=True)):
            x_BH = block.step(x_BH, cache, cells_B, mask_B11W, rotation, self.told.get(f"block {i}"))
        x_BH = self.vae.decoder_norm(x_BH)
        if "head" in self.told:
            x_BH = x_BH + self.told["head"]
        if self.lookup is not None:
            x_BH = x_BH + self.lookup.step(
                x_BH, self.known_keys_BANK, self.known_values_BANK, self.knows_B11N
            )
        logits_BV = at_least_fp32(self.vae.head(x_BH))
        # A sentence has at least one token.
        logits_BV[:, config.eos_token_id].masked_fill_(self.places_B == 0, -torch.inf)
        if config.bos_token_id != config.eos_token_id:
            logits_BV[:, config.bos_token_id] = -torch.inf
        return logits_BV
