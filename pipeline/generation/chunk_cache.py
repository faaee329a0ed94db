"""Keys and latents of the chunks of documents that a token-level model with context attention generates."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.models.attention.chunks import ChunkAttentionLm, EarlierChunks


class ChunkCache:
    """The last `context_chunks` chunks of B documents of equal length."""

    def __init__(self, model: ChunkAttentionLm, batch: int) -> None:
        self.model, self.num_read = model, 0
        weight = model.context_attention.none_H
        self.keys_BCH = self.latents_BCH = weight.new_empty(batch, 0, len(weight))

    def read(self, tokens_BT: Tensor) -> None:
        """Add the chunks that are whole in the documents so far, which are without BOS."""
        size, options = self.model.config.context_chunk_tokens, self.model.config
        whole = tokens_BT.shape[1] // size
        if whole == self.num_read:
            return
        new_BCX = tokens_BT[:, self.num_read * size : whole * size].unflatten(1, (-1, size))
        new_BCX = new_BCX[:, -options.context_chunks :]
        latents_BCH = self.model.latents(new_BCX)
        keys_BCH = self.model.context_attention.key(latents_BCH)
        self.keys_BCH, self.latents_BCH = (
            torch.cat(pair, 1)[:, -options.context_chunks :]
            for pair in ((self.keys_BCH, keys_BCH), (self.latents_BCH, latents_BCH))
        )
        self.num_read = whole

    def logits(self, unread_BT: Tensor, cache: DynamicCache) -> Tensor:
        """Logits of the next token [B, V], after these tokens."""
        base: Any = self.model.lm.base_model
        hidden_BH = base(input_ids=unread_BT, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        visible_B1 = torch.full((len(hidden_BH), 1), self.keys_BCH.shape[1], device=hidden_BH.device)
        earlier = EarlierChunks(self.keys_BCH, self.latents_BCH, visible_B1)
        head: Any = self.model.get_output_embeddings()
        logits_BV: Tensor = head(self.model.context_attention(hidden_BH, earlier))
        return logits_BV
