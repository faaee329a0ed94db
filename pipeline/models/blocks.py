"""The blocks of the sentence encoder and decoder (arXiv 2408.00655, sections 3.1 and 3.2), and newer ones.

Shape suffixes: T packed tokens, S sentences, B sentences decoded side by side, H hidden size, A heads, K head size,
W rows that a cache holds.
"""

import math
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.config.models import BlockKind
from pipeline.models.attention_patterns import Pattern


class BlockConfig(Protocol):
    """What a block reads of the model's configuration."""

    hidden_size: int
    num_heads: int
    ffn_multiplier: float
    norm_first: bool
    block: BlockKind


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


class Rotation:
    """Rotary positions of packed tokens (arXiv 2104.09864): only differences of positions reach attention."""

    def __init__(self, positions_T: Tensor, head_size: int, dtype: torch.dtype) -> None:
        half = torch.arange(0, head_size, 2, device=positions_T.device)
        frequencies = torch.exp(half * (-math.log(10_000.0) / head_size))
        angles_T1K = (positions_T[:, None] * frequencies).repeat(1, 2)[:, None]
        self.cos_T1K, self.sin_T1K = angles_T1K.cos().to(dtype), angles_T1K.sin().to(dtype)

    def __call__(self, x_TAK: Tensor) -> Tensor:
        """Turn each pair (k, k + K / 2) by its token's angle."""
        first, second = x_TAK.chunk(2, dim=-1)
        return x_TAK * self.cos_T1K + torch.cat([-second, first], dim=-1) * self.sin_T1K


class KeyValueCache:
    """Keys and values of the last W rows of B sentences, for one block: a ring, so old rows make room for new."""

    def __init__(self, batch: int, size: int, num_heads: int, head_size: int, like: Tensor) -> None:
        self.keys_BAWK = like.new_zeros(batch, num_heads, size, head_size)
        self.values_BAWK = torch.zeros_like(self.keys_BAWK)

    def write(self, cells_B: Tensor, k_BAK: Tensor, v_BAK: Tensor) -> None:
        """Put one row's key and value into a cell of each sentence."""
        rows_B = torch.arange(len(cells_B), device=cells_B.device)
        self.keys_BAWK[rows_B, :, cells_B] = k_BAK
        self.values_BAWK[rows_B, :, cells_B] = v_BAK

    def __getitem__(self, rows_B: Tensor) -> "KeyValueCache":
        """A copy of these rows of the batch."""
        part = object.__new__(KeyValueCache)
        part.keys_BAWK, part.values_BAWK = self.keys_BAWK[rows_B], self.values_BAWK[rows_B]
        return part


class SelfAttention(nn.Module):
    """Multi-head self-attention over packed rows."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        bias = config.block == "paper"
        self.num_heads = config.num_heads
        self.head_size = config.hidden_size // config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=bias)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, x_TH: Tensor, pattern: Pattern, rotation: Rotation | None) -> Tensor:
        """[T, H] -> [T, H]."""
        return self.out(pattern.attend(*self._project(x_TH, rotation)).flatten(1))

    def step(
        self,
        x_BH: Tensor,
        cache: KeyValueCache,
        cells_B: Tensor,
        mask_B11W: Tensor,
        rotation: Rotation | None,
    ) -> Tensor:
        """The next row of each of B sentences [B, H], written to its cell -> [B, H]."""
        q_BAK, k_BAK, v_BAK = self._project(x_BH, rotation)
        cache.write(cells_B, k_BAK, v_BAK)
        out_BA1K = F.scaled_dot_product_attention(
            q_BAK[:, :, None], cache.keys_BAWK, cache.values_BAWK, attn_mask=mask_B11W
        )
        return self.out(out_BA1K.flatten(1))

    def _project(self, x_TH: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_TH).view(-1, 3, self.num_heads, self.head_size).unbind(1)
        return (q, k, v) if rotation is None else (rotation(q), rotation(k), v)


class LatentOutput(nn.Linear):
    """The last product on the way from the latent to the decoder's rows, told apart to be initialised."""


class LatentAttention(nn.Module):
    """Cross-attention to one vector.

    A softmax over a single key is 1, so queries and keys have no effect and are left out: what remains of
    the paper's cross-attention is exactly `out(value(latent))`, the same for each row of the sentence.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        bias = config.block == "paper"
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.out = LatentOutput(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H], to be added to each row of its sentence."""
        return self.out(self.value(latents_SH))


class LatentPrefix(nn.Module):
    """What a sentence's first row is told by its latent, on top of the start mark."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm = new_norm(config)
        self.out = LatentOutput(config.hidden_size, config.hidden_size, bias=config.block == "paper")

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H]."""
        return self.out(self.norm(latents_SH))


class LatentHead(nn.Module):
    """What the head is told by a sentence's latent past all blocks: a vector added to what each row gives it, so words
    that are like the latent become likelier in the whole sentence."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm = new_norm(config)
        self.scale_H = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H]."""
        return self.norm(latents_SH) * self.scale_H


class FeedForward(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.ffn_multiplier)
        self.up = nn.Linear(config.hidden_size, inner)
        self.down = nn.Linear(inner, config.hidden_size)

    def forward(self, x_TH: Tensor) -> Tensor:
        """[T, H] -> [T, H]."""
        return self.down(F.gelu(self.up(x_TH)))


class GatedFeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): the gate and what it lets through, then back."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.ffn_multiplier)
        self.up = nn.Linear(config.hidden_size, 2 * inner, bias=False)
        self.down = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x_TH: Tensor) -> Tensor:
        """[T, H] -> [T, H]."""
        gate, passed = self.up(x_TH).chunk(2, dim=-1)
        return self.down(F.silu(gate) * passed)


def new_norm(config: BlockConfig) -> nn.Module:
    """The normalisation that goes with the kind of block."""
    size = config.hidden_size
    return nn.LayerNorm(size) if config.block == "paper" else nn.RMSNorm(size, eps=1e-6)


class Block(GradientCheckpointingLayer):
    """Self-attention, in a decoder attention to the latent, feed-forward; each with a residual and a norm."""

    def __init__(self, config: BlockConfig, cross_attention: bool = False) -> None:
        super().__init__()
        self.norm_first = config.norm_first or config.block == "llama"
        self.attention = SelfAttention(config)
        self.attention_norm = new_norm(config)
        self.feed_forward = FeedForward(config) if config.block == "paper" else GatedFeedForward(config)
        self.feed_forward_norm = new_norm(config)
        if cross_attention:
            self.latent_attention = LatentAttention(config)
            self.latent_norm = new_norm(config)

    def forward(
        self,
        x_TH: Tensor,
        pattern: Pattern,
        rotation: Rotation | None,
        latents_SH: Tensor | None = None,
        sentence_T: Tensor | None = None,
    ) -> Tensor:
        """[T, H] -> [T, H]; with cross-attention told the latent of each sentence and the sentence of each row."""
        normed = self._before(x_TH, self.attention_norm)
        x_TH = self._after(x_TH, self.attention(normed, pattern, rotation), self.attention_norm)
        if latents_SH is not None:
            x_TH = self._after(x_TH, self.told(latents_SH)[sentence_T], self.latent_norm)
        return self._feed_forward(x_TH)

    def told(self, latents_SH: Tensor) -> Tensor:
        """What the rows of each sentence are told by its latent [S, H] -> [S, H]."""
        return self.latent_attention(self._before(latents_SH, self.latent_norm))

    def step(
        self,
        x_BH: Tensor,
        cache: KeyValueCache,
        cells_B: Tensor,
        mask_B11W: Tensor,
        rotation: Rotation | None,
        told_BH: Tensor | None,
    ) -> Tensor:
        """One row of each of B sentences [B, H] -> [B, H]; `told_BH`: by their latents, with cross-attention."""
        normed = self._before(x_BH, self.attention_norm)
        change = self.attention.step(normed, cache, cells_B, mask_B11W, rotation)
        x_BH = self._after(x_BH, change, self.attention_norm)
        if told_BH is not None:
            x_BH = self._after(x_BH, told_BH, self.latent_norm)
        return self._feed_forward(x_BH)

    def _feed_forward(self, x_TH: Tensor) -> Tensor:
        normed = self._before(x_TH, self.feed_forward_norm)
        return self._after(x_TH, self.feed_forward(normed), self.feed_forward_norm)

    def _before(self, x_TH: Tensor, norm: nn.Module) -> Tensor:
        return norm(x_TH) if self.norm_first else x_TH

    def _after(self, x_TH: Tensor, change_TH: Tensor, norm: nn.Module) -> Tensor:
        return x_TH + change_TH if self.norm_first else norm(x_TH + change_TH)
