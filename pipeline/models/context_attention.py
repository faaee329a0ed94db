"""Looking up the sentences before: each row of the decoder attends to their latents and tells the head what it finds.

The predicted latent is one vector for a whole sentence; what stood in which sentence before is worth more to some of
its words than to others. So past the decoder's layers each row asks on its own. Where the encoder reads the head's own
vectors (`encoder_embedding: output`), a latent is a direction in the space of words, and what is found makes the words
of the sentences found likelier.

Shape suffixes: D windows, N sentences before (the first stands for "none"), R rows of the decoder, B documents written
side by side, H hidden, A heads, K head size, s x l a bucket of windows with as many rows.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.stream.batches import SentenceBatch

INITIAL_SCALE = 0.1
"""How loud what is found starts, over the decoder's own output: enough to be heard, too little to disturb."""


class LookupConfig(Protocol):
    """What a lookup reads of the SLLM's configuration."""

    context_attention_heads: int


class SentenceLookup(nn.Module):
    """Attention of the decoder's rows to the latents of the sentences before; its values are the latents themselves."""

    def __init__(self, config: LookupConfig, hidden_size: int) -> None:
        super().__init__()
        self.num_heads = config.context_attention_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.none_H = nn.Parameter(torch.empty(hidden_size))
        """Key of "none", whose value is 0."""
        self.scale_H = nn.Parameter(torch.empty(hidden_size))

    def forward(self, hidden_RH: Tensor, latents_DNH: Tensor, batch: SentenceBatch) -> Tensor:
        """-> what to add to the decoder's output [R, H].

        `batch`: of the decoder's rows, each with its window and its sentence's place, which sees what is before it.
        """
        k_DANK, v_DANK = self.remember(self.key(latents_DNH), latents_DNH)
        q_RAK = self._heads(self.query(hidden_RH))
        sentence_R = batch.decoder_rows.sequence_T
        window_R, place_R = batch.window_S[sentence_R], batch.place_S[sentence_R]
        sentences_N = torch.arange(k_DANK.shape[2], device=place_R.device)
        found = []
        for gather_sl in batch.window_rows.gathers:
            window_s = window_R[gather_sl[:, 0]]
            sees_s1lN = (sentences_N <= place_R[gather_sl][..., None])[:, None]
            out_sAlK = F.scaled_dot_product_attention(
                q_RAK[gather_sl].transpose(1, 2), k_DANK[window_s], v_DANK[window_s], attn_mask=sees_s1lN
            )
            found.append(out_sAlK.transpose(1, 2).flatten(0, 1).flatten(1))
        return torch.cat(found)[batch.window_rows.scatter_T] * self.scale_H

    def remember(self, keys_DNH: Tensor, latents_DNH: Tensor) -> tuple[Tensor, Tensor]:
        """Sentences by their keys and latents -> by head, and "none" before them [D, A, 1 + N, K]."""
        keys_DNH = torch.cat([self.none_H.expand(len(keys_DNH), 1, -1), keys_DNH], dim=1)
        values_DNH = F.pad(latents_DNH, (0, 0, 1, 0))
        return self._heads(keys_DNH).transpose(1, 2), self._heads(values_DNH).transpose(1, 2)

    def step(self, hidden_BH: Tensor, k_BANK: Tensor, v_BANK: Tensor, mask_B11N: Tensor) -> Tensor:
        """The same for one row of each of B documents -> [B, H]; the mask is 0 on what each may see."""
        q_BA1K = self._heads(self.query(hidden_BH))[:, :, None]
        out_BA1K = F.scaled_dot_product_attention(q_BA1K, k_BANK, v_BANK, attn_mask=mask_B11N)
        return out_BA1K.flatten(1) * self.scale_H

    def _heads(self, x_H: Tensor) -> Tensor:
        return x_H.unflatten(-1, (self.num_heads, -1))
