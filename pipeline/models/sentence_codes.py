"""A discrete code of the next sentence, which the trunk predicts beside its latent (cf. arXiv 2602.08984).

A code is a product quantisation of the sentence's latent (Jégou et al. 2011): the latent is cut into B parts, and the
code of a part is the nearest of its E centres. The cross-entropy of the codes is an auxiliary loss of the trunk. The
decoder gets the mean of the centres under the predicted probabilities, added to the predicted latent, and never the
code of the sentence itself, so likelihoods stay exact.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.precision import at_least_fp32


class SentenceCodesConfig(Protocol):
    """The options of the SLLM's configuration that the codes use."""

    code_books: int
    code_entries: int
    code_loss_weight: float


@dataclass(frozen=True)
class CodePrediction:
    """What `SentenceCodes` computes from the trunk's output before each sentence."""

    expected_SH: Tensor
    """Mean of the centres under the predicted probabilities; only the prediction gets a gradient from it."""
    loss: Tensor
    """What is added to the objective, a sum over the sentences; 0 without their latents."""
    nll: Tensor
    """Cross-entropy (nats) of all codes, a sum over the sentences, to log; 0 without their latents."""


class SentenceCodes(nn.Module):
    """Codebooks of latents, and their prediction by the trunk. Raises `ModelError` where the parts do not fit.

    Letters: B codebooks, E entries of each, K width of a part of a latent. `trunk_size`, `latent_size`: widths, in
    dimensions.
    """

    def __init__(self, config: SentenceCodesConfig, trunk_size: int, latent_size: int) -> None:
        super().__init__()
        books = config.code_books
        if latent_size % books:
            raise ModelError(f"sllm.code_books ({books}) must divide the latents' size, {latent_size}")
        self.books, self.loss_weight = books, config.code_loss_weight
        self.centres_BEK = nn.Parameter(torch.empty(books, config.code_entries, latent_size // books))
        self.head = nn.Linear(trunk_size, books * config.code_entries)

    def forward(self, hidden_SH: Tensor, latents_SH: Tensor | None = None) -> CodePrediction:
        """From the trunk's output before each sentence; `latents_SH`, those of the sentences themselves, are in the
        loss only, and get no gradient."""
        logits_SBE = at_least_fp32(self.head(hidden_SH)).unflatten(1, (self.books, -1))
        probabilities_SBE = logits_SBE.softmax(-1).to(hidden_SH.dtype)
        expected_SBK = torch.einsum("sbe,bek->sbk", probabilities_SBE, self.centres_BEK.detach())
        if latents_SH is None:
            return CodePrediction(expected_SBK.flatten(1), logits_SBE.new_zeros(()), logits_SBE.new_zeros(()))
        codes_SB, mixture_nll = self._quantise(latents_SH.detach())
        nll = F.cross_entropy(logits_SBE.flatten(0, 1), codes_SB.flatten(), reduction="sum")
        return CodePrediction(expected_SBK.flatten(1), self.loss_weight * (nll + mixture_nll), nll.detach())

    def _quantise(self, latents_SH: Tensor) -> tuple[Tensor, Tensor]:
        """The codes [S, B], and the loss of the centres.

        It is the negative log-likelihood, less a constant, of a mixture of Gaussians of unit variance around them:
        unlike in k-means, each centre gets a gradient from each latent, so that none stays unused.
        """
        parts_SBK = at_least_fp32(latents_SH).unflatten(1, (self.books, -1))
        centres_BEK = self.centres_BEK.to(parts_SBK.dtype)
        # Half of the squared distance, less what is equal for all centres: no tensor [S, B, E, K].
        closeness_SBE = torch.einsum("sbk,bek->sbe", parts_SBK, centres_BEK)
        closeness_SBE = closeness_SBE - 0.5 * centres_BEK.square().sum(-1)
        mixture_nll = (0.5 * parts_SBK.square().sum(-1) - closeness_SBE.logsumexp(-1)).sum()
        return closeness_SBE.detach().argmax(-1), mixture_nll
