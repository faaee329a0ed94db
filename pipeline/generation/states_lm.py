"""Steps of a token-level model that attends to the last positions of earlier chunks of tokens."""

import torch
from torch import Tensor

from pipeline.generation.decoder_cache import CachedPositions
from pipeline.generation.states_cache import StatesCache
from pipeline.models.attention.states_lm import StatesLm


class StatesLmSteps:
    """B documents of equal length, read token by token; chunks are cut from their start."""

    def __init__(self, model: StatesLm, batch: int) -> None:
        config, weight = model.config, model.embedding.weight
        self._model, self._position = model, 0
        self._cache = StatesCache(config, batch, config.sliding_window, weight, config.attended_chunks)

    def logits(self, unread_BT: Tensor) -> Tensor:
        """Logits of the next token [B, V], after these tokens."""
        cache, dtype = self._cache, self._model.embedding.weight.dtype
        for token_B in unread_BT.unbind(1):
            position = self._position
            pattern = CachedPositions(cache, torch.full_like(token_B, position), dtype)
            hidden_BH = self._model.decode(token_B, pattern)
            if position and position % self._model.config.chunk_tokens == 0:
                for document in range(len(token_B)):
                    cache.end(document, position)
            self._position += 1
        logits_BV: Tensor = self._model.head(hidden_BH)
        return logits_BV
