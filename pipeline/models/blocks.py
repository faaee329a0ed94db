"""The blocks of the sentence encoder and decoder (arXiv 2408.00655, sections 3.1 and 3.2), and newer ones.

A block knows nothing of training or generation: the attention pattern decides which keys a query attends to.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.config.models import BlockKind
from pipeline.models.attention_patterns import AttentionPattern


class BlockConfig(Protocol):
    """The options of a model's configuration that a block uses."""

    hidden_size: int
    num_heads: int
    ffn_multiplier: float
    norm_first: bool
    block: BlockKind


@lru_cache(maxsize=16)
def sinusoids(num_positions: int, hidden_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal positions in the shape (num_positions, hidden_size) (arXiv 1706.03762, section 3.5)."""
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
    """The next power of two, so that few tables are made."""
    return 1 << max(n - 1, 1).bit_length()


class Rotation:
    """Rotary positions of packed tokens (arXiv 2104.09864): only differences of positions reach attention. The angles
    are float64 where the model is, else float32."""

    def __init__(
        self, positions_T: Tensor, head_size: int, dtype: torch.dtype, theta: float = 10_000.0
    ) -> None:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        half = torch.arange(0, head_size, 2, device=positions_T.device, dtype=wide)
        frequencies = torch.exp(half * (-math.log(theta) / head_size))
        angles_T1K = (positions_T[:, None] * frequencies).repeat(1, 2)[:, None]
        self.cos_T1K, self.sin_T1K = angles_T1K.cos().to(dtype), angles_T1K.sin().to(dtype)

    def __call__(self, x_TAK: Tensor) -> Tensor:
        """Turn each pair (k, k + K / 2) by its token's angle."""
        first, second = x_TAK.chunk(2, dim=-1)
        return x_TAK * self.cos_T1K + torch.cat([-second, first], dim=-1) * self.sin_T1K


class SelfAttention(nn.Module):
    """Multi-head self-attention over packed positions."""

    def __init__(self, config: BlockConfig, layer: int) -> None:
        super().__init__()
        bias = config.block == "paper"
        self.layer = layer
        self.num_heads = config.num_heads
        self.head_size = config.hidden_size // config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=bias)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, x_TH: Tensor, pattern: AttentionPattern, rotation: Rotation | None) -> Tensor:
        """[T, H] -> [T, H]."""
        q_TAK, k_TAK, v_TAK = self.qkv(x_TH).view(-1, 3, self.num_heads, self.head_size).unbind(1)
        if rotation is not None:
            q_TAK, k_TAK = rotation(q_TAK), rotation(k_TAK)
        return self.out(pattern.attend(q_TAK, k_TAK, v_TAK, self.layer).flatten(1))


class LatentAttention(nn.Module):
    """Cross-attention to one vector.

    A softmax over a single key is 1, so queries and keys have no effect and are left out. The paper's cross-attention
    then equals `out(value(latent))`, the same for each position of the sentence.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        bias = config.block == "paper"
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H], to be added at each position of its sentence."""
        return self.out(self.value(latents_SH))


class LatentPrefix(nn.Module):
    """What is added to the embedding of a sentence's first position (BOS): a projection of its latent."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm = new_norm(config)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=config.block == "paper")

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H]."""
        return self.out(self.norm(latents_SH))


class OutputLatent(nn.Module):
    """What is added before the LM head at each position of a sentence: its scaled latent. Tokens whose output embedding
    is similar to the latent become likelier."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm = new_norm(config)
        self.scale_H = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H]."""
        return self.norm(latents_SH) * self.scale_H


@dataclass(frozen=True)
class LatentConditioning:
    """What the latents of S sentences add in the decoder [S, H]; None: nothing."""

    prefix_SH: Tensor | None
    """To the embedding of each sentence's first position."""
    blocks_SH: tuple[Tensor | None, ...]
    """At each position, in each block."""
    output_SH: Tensor | None
    """At each position, after the blocks."""

    @classmethod
    def nothing(cls, num_layers: int) -> "LatentConditioning":
        """The decoder without latents."""
        return cls(None, (None,) * num_layers, None)


class Head(nn.Linear):
    """Logits of the vocabulary; called with token ids, the output embeddings of those tokens. Both are calls, since
    ZeRO-3 gathers the weight only for calls."""

    def forward(self, x: Tensor) -> Tensor:
        """[R, H] -> [R, V]; ids [T] -> [T, H]."""
        return super().forward(x) if x.is_floating_point() else F.embedding(x, self.weight)


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
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.ffn_multiplier)
        self.up = nn.Linear(config.hidden_size, 2 * inner, bias=False)
        self.down = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x_TH: Tensor) -> Tensor:
        """[T, H] -> [T, H]."""
        gate, value = self.up(x_TH).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


def new_norm(config: BlockConfig) -> nn.Module:
    """The normalisation of this kind of block."""
    size = config.hidden_size
    return nn.LayerNorm(size) if config.block == "paper" else nn.RMSNorm(size, eps=1e-6)


class Block(GradientCheckpointingLayer):
    """Self-attention, in a decoder also cross-attention to the latent, and feed-forward; each with a residual and a
    norm."""

    def __init__(self, config: BlockConfig, layer: int, cross_attention: bool = False) -> None:
        super().__init__()
        self.norm_first = config.norm_first or config.block == "llama"
        self.attention = SelfAttention(config, layer)
        self.attention_norm = new_norm(config)
        self.feed_forward = FeedForward(config) if config.block == "paper" else GatedFeedForward(config)
        self.feed_forward_norm = new_norm(config)
        if cross_attention:
            self.latent_attention = LatentAttention(config)
            self.latent_norm = new_norm(config)

    def forward(
        self,
        x_TH: Tensor,
        pattern: AttentionPattern,
        rotation: Rotation | None,
        attended_SH: Tensor | None = None,
        sentence_T: Tensor | None = None,
    ) -> Tensor:
        """[T, H] -> [T, H]. With cross-attention, `attended_SH` is the result of `attend_to_latents` and `sentence_T`
        the sentence of each position."""
        normed = self._before(x_TH, self.attention_norm)
        x_TH = self._after(x_TH, self.attention(normed, pattern, rotation), self.attention_norm)
        if attended_SH is not None:
            x_TH = self._after(x_TH, attended_SH[sentence_T], self.latent_norm)
        normed = self._before(x_TH, self.feed_forward_norm)
        return self._after(x_TH, self.feed_forward(normed), self.feed_forward_norm)

    def attend_to_latents(self, latents_SH: Tensor) -> Tensor:
        """[S, H] -> [S, H]: what cross-attention adds at each position of a sentence, the same at all of them."""
        return self.latent_attention(self._before(latents_SH, self.latent_norm))

    def _before(self, x_TH: Tensor, norm: nn.Module) -> Tensor:
        return norm(x_TH) if self.norm_first else x_TH

    def _after(self, x_TH: Tensor, change_TH: Tensor, norm: nn.Module) -> Tensor:
        return x_TH + change_TH if self.norm_first else norm(x_TH + change_TH)
