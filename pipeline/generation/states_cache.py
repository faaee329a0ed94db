"""The cache of a decoder that attends to states of earlier sentences (`pipeline.models.attention.states`)."""

import torch
from torch import Tensor

from pipeline.generation.decoder_cache import CacheOptions, DecoderCache, FillingCache
from pipeline.models.attention.states import WindowAndStates
from pipeline.stream.batches import DecodedSentences


class StatesCache(DecoderCache):
    """Keys and values of the last X positions of each of B documents, and of the last positions of its last N
    sentences, in each layer.

    Sentence s is in cell X + s mod N, so that a new sentence replaces the oldest.
    """

    def __init__(self, config: CacheOptions, batch: int, size: int, like: Tensor, count: int) -> None:
        super().__init__(config, batch, size, like, states=count)
        self.count = count
        self.sentences = [0] * batch
        """Ended sentences of each document."""
        self.last_BN = torch.full((batch, count), torch.iinfo(torch.long).max, device=like.device)
        """Last position of each sentence in the cache."""

    def sees(self, positions_B: Tensor) -> Tensor:
        """Which cells the newest position of each document attends to [B, X + N]: no position twice."""
        is_behind_BN = self.last_BN <= (positions_B - self.size)[:, None]
        return torch.cat([super().sees(positions_B), is_behind_BN], dim=1)

    def end(self, document: int, position: int) -> None:
        """The document's sentence has ended at this position, which is in the cache."""
        if self.count == 0:
            return
        index = self.sentences[document] % self.count
        for keys_BAXK, values_BAXK in self.layers:
            for cells_BAXK in (keys_BAXK, values_BAXK):
                cells_BAXK[document, :, self.size + index] = cells_BAXK[document, :, position % self.size]
        self.last_BN[document, index] = position
        self.sentences[document] += 1

    def keep(self, document_B: Tensor) -> None:
        """Keep only these documents, as 0, 1, ..."""
        super().keep(document_B)
        self.last_BN = self.last_BN[document_B]
        self.sentences = [self.sentences[document] for document in document_B.tolist()]


class FillingStates(FillingCache):
    """As `FillingCache`, also for the last positions of the last sentences of packed documents."""

    def __init__(
        self, window: WindowAndStates, decoded: DecodedSentences, cache: StatesCache, document_D: Tensor
    ) -> None:
        super().__init__(window, decoded, cache, document_D)
        counts_D = torch.bincount(decoded.window_S, minlength=len(document_D))
        kept_S = decoded.index_S >= (counts_D - cache.count)[decoded.window_S]
        self._last_P = window.last_S[kept_S]
        self._document_P = document_D[decoded.window_S[kept_S]]
        index_P = decoded.index_S[kept_S] % max(cache.count, 1)
        self._state_cell_P = cache.size + index_P
        cache.last_BN[self._document_P, index_P] = window.positions_T[self._last_P]
        for document, count in zip(document_D.tolist(), counts_D.tolist(), strict=True):
            cache.sentences[document] = count

    def attend(self, q_RAK: Tensor, k_RAK: Tensor, v_RAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]."""
        k_PAK, v_PAK = k_RAK[self._last_P], v_RAK[self._last_P]
        self._cache.put(layer, self._document_P, self._state_cell_P, k_PAK, v_PAK)
        return super().attend(q_RAK, k_RAK, v_RAK, layer)
