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
        return self.draw(self.probabilities(logits_BV))

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """Probabilities [B, V] with which tokens are sampled; at temperature 0 the likeliest one has 1."""
        if self.temperature == 0:
            return torch.zeros_like(logits_BV).scatter_(-1, logits_BV.argmax(-1, keepdim=True), 1.0)
        probabilities_BV = (logits_BV / self.temperature).softmax(-1)
        if self.top_p < 1:
            sorted_BV, order_BV = probabilities_BV.sort(descending=True)
            # A token stays if the likelier ones together have less than the probability of the nucleus.
            sorted_BV[sorted_BV.cumsum(-1) - sorted_BV >= self.top_p] = 0
            sorted_BV /= sorted_BV.sum(-1, keepdim=True)
            probabilities_BV = torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV)
        return probabilities_BV

    def draw(self, weights_BV: Tensor) -> Tensor:
        """One token id for each document [B], each with a probability in proportion to its weight [B, V]."""
        # A uniform number in the cumulative distribution: many times faster than torch.multinomial.
        cumulative_BV = weights_BV.cumsum(-1)
        # Below 1 by more than rounding, so that no token of probability 0 is sampled.
        drawn_B1 = torch.rand(len(weights_BV), 1, generator=self.generator).clamp_(max=1 - 1e-6)
        drawn_B1 = drawn_B1.to(cumulative_BV)
        index_B1 = torch.searchsorted(cumulative_BV, drawn_B1 * cumulative_BV[:, -1:], right=True)
        return index_B1[:, 0].clamp(max=weights_BV.shape[-1] - 1)
