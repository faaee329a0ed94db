"""From logits to the next token."""

import torch
from torch import Tensor


class Sampler:
    """Greedy at temperature 0, else temperature and nucleus sampling (arXiv 1904.09751) from its own seed."""

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """One token id for each document [B]."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        probabilities_BV = (logits_BV / self.temperature).softmax(-1)
        if self.top_p < 1:
            sorted_BV, order_BV = probabilities_BV.sort(descending=True)
            # A token stays if the likelier ones together have less than the probability of the nucleus.
            sorted_BV[sorted_BV.cumsum(-1) - sorted_BV >= self.top_p] = 0
            probabilities_BV = torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV)
        # A uniform number in the cumulative distribution: many times faster than torch.multinomial.
        cumulative_BV = probabilities_BV.cumsum(-1)
        # Below 1 by more than rounding, so that no token of probability 0 is sampled.
        drawn_B1 = torch.rand(len(logits_BV), 1, generator=self.generator).clamp_(max=1 - 1e-6)
        drawn_B1 = drawn_B1.to(cumulative_BV)
        index_B1 = torch.searchsorted(cumulative_BV, drawn_B1 * cumulative_BV[:, -1:], right=True)
        return index_B1[:, 0].clamp(max=logits_BV.shape[-1] - 1)
