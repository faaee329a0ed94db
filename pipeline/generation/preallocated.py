"""The key/value cache of a token-level model, in memory that is allocated once.

The caches of `transformers` that grow or slide copy all keys and values for each token.
"""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

SPARE_SHARE = 1 / 8
"""Share of the context that is allocated beyond it: the last tokens move to the start once in so many tokens."""
REMOVABLE = 64
"""Tokens that can be removed again."""


class PreallocatedLayer(DynamicSlidingWindowLayer):
    """Keys and values of the last `window` - 1 tokens and the new ones; tokens just added can be removed again."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self._end = 0
        self._both: tuple[Tensor, Tensor] | None = None  # keys, values [B, A, X, K]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add N tokens [B, A, N, K] -> the keys and values that they may attend to, oldest first, as views."""
        new, window = key_states.shape[2], self.sliding_window
        self.is_initialized = True
        kept = min(self._end, window - 1)
        stay = min(self._end, window - 1 + REMOVABLE)
        if self._both is None or self._both[0].shape[2] < stay + new:
            size = max(new, int(window * (1 + SPARE_SHARE)) + 1) + REMOVABLE
            self._allocate(key_states, value_states, stay, size)
        elif self._end + new > self._both[0].shape[2]:
            for one in self._both:
                one[:, :, :stay] = one[:, :, self._end - stay : self._end].clone()
            self._end = stay
        assert self._both is not None
        first, self._end = self._end - kept, self._end + new
        for one, states in zip(self._both, (key_states, value_states), strict=True):
            one[:, :, self._end - new : self._end] = states
        self.cumulative_length += new
        self.keys, self.values = (one[:, :, first : self._end] for one in self._both)
        return self.keys, self.values

    def used(self) -> tuple[Tensor, Tensor]:
        """Keys and values after the last `update` [B, A, N, K]."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last -`tokens_to_remove` tokens, at most `REMOVABLE` after one another."""
        assert tokens_to_remove <= 0
        self._end += tokens_to_remove
        self.cumulative_length += tokens_to_remove

    def _allocate(self, keys: Tensor, values: Tensor, kept: int, size: int) -> None:
        before = self._both
        self._both = tuple(one.new_empty(*one.shape[:2], kept + size, one.shape[3]) for one in (keys, values))  # type: ignore[assignment]
        if before is not None and self._both is not None:
            for one, old in zip(self._both, before, strict=True):
                one[:, :, :kept] = old[:, :, self._end - kept : self._end]
        self._end = kept


def preallocated_cache(config: PreTrainedConfig, window: int) -> DynamicCache:
    """An empty cache in which each token attends to itself and at most `window` - 1 tokens before it."""
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        own = getattr(layer, "sliding_window", None)  # of a model with a window of its own
        cache.layers[index] = PreallocatedLayer(min(own or window, window))
    return cache


def remove_last(cache: DynamicCache, tokens: int) -> None:
    """Remove tokens that were added last."""
    for layer in layers_of_cache(cache):
        layer.crop(-tokens)


def layers_of_cache(cache: DynamicCache) -> list[PreallocatedLayer]:
    """The layers of a cache of `preallocated_cache`."""
    return [layer for layer in cache.layers if isinstance(layer, PreallocatedLayer)]


def seen_mask(cache: DynamicCache, new: int, window: int, dtype: torch.dtype) -> Tensor | None:
    """Additive mask of the shape [1, 1, N, X] for N new tokens over the X keys of `PreallocatedLayer`; None where it is
    the causal one that a model makes itself."""
    length = cache.get_seq_length()
    if new == 1 or length + new <= window:
        return None
    size = min(length, window - 1) + new
    distance_NX = torch.arange(size - new, size)[:, None] - torch.arange(size)
    sees_NX = (distance_NX >= 0) & (distance_NX < window)
    return torch.zeros(1, 1, new, size, dtype=dtype).masked_fill_(~sees_NX, -torch.inf)
