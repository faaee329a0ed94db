"""The rules by which the published evaluation differs from an exact likelihood, and perplexities under any of them.

Published: github.com/BestAnHongjun/SentenceVAE, tools/eval and sentence_vae/data. There the perplexity is the
exponential of a mean over batches of the mean cross-entropy of the positions in a batch.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

RULES = {
    "text": "only part of the text is read",
    "given": "the first sentence is given",
    "stop": "stop decisions cost nothing",
    "eos": "EOS counts as a token",
    "means": "mean of batch means",
    "targets": "length and EOS of the sentence before",
    "future": "the trunk attends to later sentences",
}
"""Name of each rule of the published evaluation, and what it says in tables. `text`: a sentence ends after 63 tokens,
a document after 64 sentences, and text after its last punctuation mark is dropped. `given`: of a passage, sentences 2
and later are predicted. `targets`: a sentence is cut or padded to the length of the one before, and EOS is there."""

VAE_RULES = ("text", "eos", "means")
"""Those that apply to the SentenceVAE; the others are about predicting the next sentence."""
LM_RULES = ("text", "eos", "means")
"""Those that apply to the published evaluation of token-level models."""
FORWARD_RULES = ("text", "targets", "future")
"""Those that need a forward pass of their own; the others are only another sum."""


@dataclass(frozen=True)
class Scores:
    """NLL (nats) of S units: sentences, or for token-level models whole documents."""

    nll_S: Float64
    """Of the tokens and EOS."""
    certain_S: Float64
    """The part of `nll_S` of an EOS that is certain, since the sentence has the largest length that the model knows."""
    stop_S: Float64
    """Of the decision to go on or to stop after the sentence."""
    tokens_S: Int64
    """Number of its tokens, without EOS."""
    group_S: Int64
    """Number of its batch: the passage, for a SentenceVAE 128 sentences, for a token-level model 8 documents."""
    is_first_S: NDArray[np.bool_]
    """Whether it is the first of its document."""


def perplexity(scores: Scores, rules: Collection[str] = ()) -> float:
    """Perplexity under these rules; without any, exp(NLL / tokens) of an exact likelihood, EOS in the sum alone.

    The rules of `FORWARD_RULES` must be in `scores` already.
    """
    kept_S = ~scores.is_first_S if "given" in rules else np.ones(len(scores.nll_S), bool)
    nll_S = scores.nll_S.copy()
    if "eos" not in rules:
        nll_S -= scores.certain_S
    if "stop" not in rules:
        nll_S += scores.stop_S
    count_S = scores.tokens_S + ("eos" in rules)
    if "means" not in rules:
        return float(np.exp(nll_S[kept_S].sum() / count_S[kept_S].sum()))
    groups_S = scores.group_S[kept_S]
    nll_G, count_G = (np.bincount(groups_S, values[kept_S].astype(np.float64)) for values in (nll_S, count_S))
    return float(np.exp((nll_G[count_G > 0] / count_G[count_G > 0]).mean()))
