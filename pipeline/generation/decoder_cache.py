"""The caches of generation, as attention patterns of the decoder.

A cache holds X positions of each document.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pipeline.models.attention.context import keys_and_values
from pipeline.models.attention_patterns import SlidingWindow, additive_mask
from pipeline.stream.batches import DecodedSentences

KeysAndLatents = tuple[Tensor, Tensor]
"""Keys of context attention and latents [M, H] of a document's sentences."""


class CacheOptions(Protocol):
    """The options of a model's configuration that its cache uses."""

    hidden_size: int
    num_heads: int
    num_layers: int


class DecoderCache:
    """Keys and values of the last X positions of each of B documents, in each layer.

    Position p is in cell p mod X, so that a new position replaces the oldest. A position attends to the last `window`
    positions; with more cells than that the last positions can be taken back, and written again.
    """

    def __init__(
        self,
        config: CacheOptions,
        batch: int,
        size: int,
        like: Tensor,
        window: int | None = None,
        states: int = 0,
    ) -> None:
        """`states`: cells after these X that hold no last positions (`pipeline.generation.states_cache`)."""
        head_size = config.hidden_size // config.num_heads
        shape = (batch, config.num_heads, size + states, head_size)
        self.size, self.window = size, size if window is None else window
        self.layers = [(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(config.num_layers)]
        """Keys and values [B, A, X, K]."""
        self.document_B = torch.arange(batch, device=like.device)
        self.cell_X = torch.arange(size, device=like.device)

    def sees(self, positions_B: Tensor) -> Tensor:
        """Which cells the newest position of each document attends to [B, cells]."""
        return self.cell_X <= positions_B[:, None]

    def put(self, layer: int, document_R: Tensor, cell_R: Tensor, k_RAK: Tensor, v_RAK: Tensor) -> None:
        """Write keys and values of positions into cells of documents."""
        keys_BAXK, values_BAXK = self.layers[layer]
        keys_BAXK[document_R, :, cell_R] = k_RAK
        values_BAXK[document_R, :, cell_R] = v_RAK

    def keep(self, document_B: Tensor) -> None:
        """Keep only these documents, as 0, 1, ..."""
        self.document_B = self.document_B[: len(document_B)]
        self.layers = [(keys[document_B], values[document_B]) for keys, values in self.layers]


class CachedPositions:
    """One new position of each of B documents: it is added to the cache and attends to its document's cached
    positions."""

    def __init__(self, cache: DecoderCache, positions_B: Tensor, dtype: torch.dtype) -> None:
        self.positions_T = positions_B
        self._cache = cache
        self._cell_B = positions_B % cache.size
        self._mask_B11X = additive_mask(cache.sees(positions_B)[:, None, None], dtype)

    def attend(self, q_BAK: Tensor, k_BAK: Tensor, v_BAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [B, A, K]."""
        cache = self._cache
        cache.put(layer, cache.document_B, self._cell_B, k_BAK, v_BAK)
        keys_BAXK, values_BAXK = cache.layers[layer]
        return F.scaled_dot_product_attention(
            q_BAK[:, :, None], keys_BAXK, values_BAXK, attn_mask=self._mask_B11X
        )[:, :, 0]


class CachedRun:
    """R new positions of the only document: they are added to the cache and attend to themselves and to the cached
    positions before them. The cache has at least R cells more than the window."""

    def __init__(self, cache: DecoderCache, positions_R: Tensor, dtype: torch.dtype) -> None:
        self.positions_T = positions_R
        self._cache = cache
        age_RX = (positions_R[:, None] - cache.cell_X) % cache.size
        self._mask_11RX = additive_mask(
            ((age_RX < cache.window) & (age_RX <= positions_R[:, None]))[None, None], dtype
        )

    def attend(self, q_RAK: Tensor, k_RAK: Tensor, v_RAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]."""
        cache = self._cache
        cache.put(layer, torch.zeros_like(self.positions_T), self.positions_T % cache.size, k_RAK, v_RAK)
        keys_1AXK, values_1AXK = cache.layers[layer]
        return F.scaled_dot_product_attention(
            q_RAK.transpose(0, 1)[None], keys_1AXK, values_1AXK, attn_mask=self._mask_11RX
        )[0].transpose(0, 1)


class FillingCache:
    """A sliding window over packed documents, which writes their last positions into the cache."""

    def __init__(
        self, window: SlidingWindow, decoded: DecodedSentences, cache: DecoderCache, document_D: Tensor
    ) -> None:
        """`document_D`: document of the cache for each window of the batch."""
        self.positions_T = window.positions_T
        self._window, self._cache = window, cache
        window_R = decoded.window_S[decoded.positions.sequence_T]
        self.positions_D = torch.bincount(window_R, minlength=len(document_D))
        self._kept_R = window.positions_T >= (self.positions_D - cache.size)[window_R]
        self._document_R = document_D[window_R[self._kept_R]]
        self._cell_R = window.positions_T[self._kept_R] % cache.size

    def attend(self, q_RAK: Tensor, k_RAK: Tensor, v_RAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]."""
        kept_R = self._kept_R
        self._cache.put(layer, self._document_R, self._cell_R, k_RAK[kept_R], v_RAK[kept_R])
        return self._window.attend(q_RAK, k_RAK, v_RAK, layer)


class EarlierInDocuments:
    """The earlier sentences of each of B documents; its next position attends to all of them (`EarlierLatents`)."""

    def __init__(self, documents: Sequence[KeysAndLatents]) -> None:
        keys, latents = zip(*documents, strict=True)
        self._keys_BMH, self._latents_BMH = (pad_sequence(list(x), batch_first=True) for x in (keys, latents))
        lengths_B = torch.tensor([len(latents_MH) for latents_MH in latents], device=latents[0].device)
        index_M = torch.arange(1 + self._keys_BMH.shape[1], device=lengths_B.device)
        sees_B11M = (index_M <= lengths_B[:, None])[:, None, None]
        self._mask_B11M = additive_mask(sees_B11M, self._latents_BMH.dtype)
        self._by_head: tuple[Tensor, Tensor] | None = None

    def attend(self, q_BAK: Tensor, none_H: Tensor) -> Tensor:
        """Scaled dot-product attention -> [B, A, K]."""
        if self._by_head is None:
            self._by_head = keys_and_values(self._keys_BMH, self._latents_BMH, none_H, q_BAK.shape[1])
        return F.scaled_dot_product_attention(q_BAK[:, :, None], *self._by_head, attn_mask=self._mask_B11M)[
            :, :, 0
        ]


class EarlierInDocument:
    """The earlier sentences of one document, to all of which each of R positions attends (`EarlierLatents`)."""

    def __init__(self, keys_and_latents: KeysAndLatents) -> None:
        self._keys_MH, self._latents_MH = keys_and_latents

    def attend(self, q_RAK: Tensor, none_H: Tensor) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]."""
        by_head = keys_and_values(self._keys_MH[None], self._latents_MH[None], none_H, q_RAK.shape[1])
        return F.scaled_dot_product_attention(q_RAK.transpose(0, 1)[None], *by_head)[0].transpose(0, 1)
