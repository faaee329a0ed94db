"""The blocks of the sentence encoder and decoder (arXiv 2408.00655, sections 3.1 and 3.2).

Shape suffixes: T packed tokens, S sentences, B sentences decoded side by side, H hidden size, A heads, K head size.
"""

import math
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.ragged import RaggedLayout, ragged_attention


class BlockConfig(Protocol):
    """What a block reads of the model's configuration."""

    hidden_size: int
    num_heads: int
    feed_forward_factor: float
    norm_first: bool


@lru_cache(maxsize=16)
def sinusoids(num_positions: int, hidden_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal positions [num_positions, hidden_size] (arXiv 1706.03762, section 3.5)."""
    frequencies = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10_000.0) / hidden_size))
    angles = torch.arange(num_positions)[:, None] * frequencies
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :hidden_size]
    return table.to(device, dtype)


def add_positions(x_TH: Tensor, positions_T: Tensor, num_positions: int) -> Tensor:
    """Embeddings scaled by sqrt(H), plus sinusoidal positions; `num_positions` bounds `positions_T`."""
    hidden_size = x_TH.shape[-1]
    table = sinusoids(_power_of_two(num_positions), hidden_size, x_TH.device, x_TH.dtype)
    return x_TH * math.sqrt(hidden_size) + table[positions_T]


def _power_of_two(n: int) -> int:
    """Next power of two, so that few tables are made."""
    return 1 << max(n - 1, 1).bit_length()


class KeyValueCache:
    """Keys and values of the tokens decoded so far, for one block: room for `max_tokens`."""

    def __init__(self, batch: int, max_tokens: int, num_heads: int, head_size: int, like: Tensor) -> None:
        self.keys_BALK = like.new_empty(batch, num_heads, max_tokens, head_size)
        self.values_BALK = torch.empty_like(self.keys_BALK)
        self.length = 0

    def append(self, k_BAK: Tensor, v_BAK: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token's key and value -> all keys and values so far [B, A, length, K]."""
        self.keys_BALK[:, :, self.length] = k_BAK
        self.values_BALK[:, :, self.length] = v_BAK
        self.length += 1
        return self.keys_BALK[:, :, : self.length], self.values_BALK[:, :, : self.length]

    def keep(self, rows_B: Tensor) -> None:
        """Keep only these rows of the batch (the others are done)."""
        self.keys_BALK = self.keys_BALK[rows_B]
        self.values_BALK = self.values_BALK[rows_B]


class SelfAttention(nn.Module):
    """Multi-head self-attention inside each packed sentence."""

    def __init__(self, config: BlockConfig, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = config.num_heads, causal
        self.head_size = config.hidden_size // config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_TH: Tensor, layout: RaggedLayout) -> Tensor:
        """[T, H] -> [T, H]."""
        q, k, v = self.qkv(x_TH).view(-1, 3, self.num_heads, self.head_size).unbind(1)
        return self.out(ragged_attention(q, k, v, layout, self.causal).flatten(1))

    def step(self, x_BH: Tensor, cache: KeyValueCache) -> Tensor:
        """The next token of each of B sentences [B, H] -> [B, H]."""
        q_BAK, k_BAK, v_BAK = self.qkv(x_BH).view(-1, 3, self.num_heads, self.head_size).unbind(1)
        keys, values = cache.append(k_BAK, v_BAK)
        return self.out(F.scaled_dot_product_attention(q_BAK[:, :, None], keys, values).flatten(1))


class LatentAttention(nn.Module):
    """Cross-attention to one vector.

    A softmax over a single key is 1, so queries and keys have no effect and are left out: what remains of
    the paper's cross-attention is exactly `out(value(latent))`, the same for each token of the sentence.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H], to be added to each token of its sentence."""
        return self.out(self.value(latents_SH))


class FeedForward(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.feed_forward_factor)
        self.up = nn.Linear(config.hidden_size, inner)
        self.down = nn.Linear(inner, config.hidden_size)

    def forward(self, x_TH: Tensor) -> Tensor:
        """[T, H] -> [T, H]."""
        return self.down(F.gelu(self.up(x_TH)))


class Block(GradientCheckpointingLayer):
    """Self-attention, in the decoder attention to the latent, feed-forward; each with a residual and a norm."""

    def __init__(self, config: BlockConfig, decoder: bool) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = SelfAttention(config, causal=decoder)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        if decoder:
            self.latent_attention = LatentAttention(config)
            self.latent_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x_TH: Tensor, layout: RaggedLayout, latents_SH: Tensor | None = None) -> Tensor:
        """[T, H] -> [T, H]; a decoder's block takes the latent of each sentence [S, H]."""
        normed = self._before(x_TH, self.attention_norm)
        x_TH = self._after(x_TH, self.attention(normed, layout), self.attention_norm)
        if latents_SH is not None:
            seen_SH = self.latent_attention(self._before(latents_SH, self.latent_norm))
            seen_TH = seen_SH[layout.sequence_T]
            x_TH = self._after(x_TH, seen_TH, self.latent_norm)
        return self._feed_forward(x_TH)

    def step(self, x_BH: Tensor, cache: KeyValueCache, latents_BH: Tensor) -> Tensor:
        """One token of each of B sentences [B, H] -> [B, H]."""
        x_BH = self._after(
            x_BH, self.attention.step(self._before(x_BH, self.attention_norm), cache), self.attention_norm
        )
        seen_BH = self.latent_attention(self._before(latents_BH, self.latent_norm))
        x_BH = self._after(x_BH, seen_BH, self.latent_norm)
        return self._feed_forward(x_BH)

    def _feed_forward(self, x_TH: Tensor) -> Tensor:
        normed = self._before(x_TH, self.feed_forward_norm)
        return self._after(x_TH, self.feed_forward(normed), self.feed_forward_norm)

    def _before(self, x_TH: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x_TH) if self.norm_first else x_TH

    def _after(self, x_TH: Tensor, change_TH: Tensor, norm: nn.LayerNorm) -> Tensor:
        return x_TH + change_TH if self.norm_first else norm(x_TH + change_TH)
