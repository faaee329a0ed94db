"""Attention of the decoder's layers to the last positions of earlier sentences (Thought Gestalt, arXiv 2512.25026).

The paper computes sentence after sentence. Here one pass computes a whole window: in each layer a position attends to
its sliding window, and to the keys and values that the same layer has at the last positions of the sentences before its
own. Those positions have seen their sentences, so each sentence is remembered as one key and value per layer.
"""

import torch
from torch import Tensor

from pipeline.models.attention_patterns import SlidingWindow


class WindowAndStates(SlidingWindow):
    """A sliding window of `size` positions, and before it the last positions of N sentences (or chunks of tokens).

    The N sentences are those before the one in which a position is. Those whose last position is in its window are not
    seen twice. So for a chunk of queries exactly N keys are added: those of the sentences before its first position.
    """

    def __init__(self, document_T: Tensor, size: int, sentence_T: Tensor, last_S: Tensor, count: int) -> None:
        """`sentence_T`: sentence of each position, 0, 1, ... in order; `last_S`: last position of each; `count`: N."""
        super().__init__(document_T, size)
        self.last_S = last_S
        nearest_C = sentence_T[::size] - count
        index_CN = nearest_C[:, None] + torch.arange(count, device=last_S.device)
        self._states_CN = last_S[index_CN.clamp(min=0)]
        states_C1N, index_C1N = self._states_CN[:, None], index_CN[:, None]
        first_CX1, starts_CX1, oldest_CX1 = (
            self._chunks(x_T[:, None], len(document_T))
            for x_T in (self.first_T, self.starts_T, sentence_T - count)
        )
        sees_CXN = (states_C1N < first_CX1) & (states_C1N >= starts_CX1) & (index_C1N >= oldest_CX1)
        self.sees_CXY = torch.cat([self.sees_CXY, sees_CXN & (index_C1N >= 0)], dim=-1)

    def _seen(self, x_TAK: Tensor) -> Tensor:
        """What the queries of each chunk see [C, A, Y + N, K]."""
        states_CNAK = x_TAK.index_select(0, self._states_CN.flatten()).unflatten(0, self._states_CN.shape)
        return torch.cat([super()._seen(x_TAK), states_CNAK.transpose(1, 2)], dim=2)
