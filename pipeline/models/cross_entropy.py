"""Cross-entropy after a head over a large vocabulary, whose logits are never in memory as a whole.

Logits are the largest tensor of a training step: 8,192 positions and a vocabulary of 50,272 take 1.6 GB in fp32, and
PyTorch keeps about three such tensors. Here they are computed for one chunk of positions at a time, and again in the
backward pass. This costs a third more work in the head, and memory does not grow with the number of positions. The head
is called as a module, so that its hooks run (tied weights, autocast, the gathering of ZeRO-3).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.models.precision import at_least_fp32
from pipeline.stream.batches import IGNORED

WHOLE_LOGITS = 2**26
"""Up to this number, logits (268 MB in fp32) are computed at once, since chunks cost time. Measured on a CPU with 1,024
positions, a vocabulary of 50,272 and hidden size 128: 1.3 s in chunks of 2**22, 1.15 s at once."""
CHUNK_LOGITS = {"cpu": 2**22, "cuda": 2**25}
"""Logits per chunk otherwise. Small chunks fit the caches of a CPU: 2**24 took 1.8 s there, 2**26 2.5 s. On a GPU (not
measured) a chunk must be large enough to use all of it."""


def head_cross_entropy(head: nn.Linear, hidden_RH: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood (nats, fp32 or better) of each target [R], and whether it was the likeliest [R].

    The logits are `head(hidden_RH)`; the losses equal `F.cross_entropy` within rounding. Where the target is `IGNORED`,
    the loss is 0 and the target is not the likeliest.
    """
    vocab_size = head.out_features  # not the weight's shape: ZeRO-3 empties it
    if len(targets_R) * vocab_size <= WHOLE_LOGITS:
        return _losses(head, hidden_RH, targets_R)
    size = max(CHUNK_LOGITS[hidden_RH.device.type] // vocab_size, 1)
    chunks = zip(hidden_RH.split(size), targets_R.split(size), strict=True)
    run = _again_in_backward if torch.is_grad_enabled() else _losses
    nll, hit = zip(*(run(head, hidden, targets) for hidden, targets in chunks), strict=True)
    return torch.cat(nll), torch.cat(hit)


def sampled_cross_entropy(
    head: nn.Linear, hidden_RH: Tensor, targets_R: Tensor, sample_size: int
) -> tuple[Tensor, Tensor]:
    """As `head_cross_entropy`, over the targets and `sample_size` other tokens, drawn anew (arXiv 1412.2007).

    `head` called with token ids gives their vectors. Each sampled token stands for an equal part of those left out, so
    the sum of exponentials is right on average; its logarithm is low by half its relative variance. A target counts as
    the likeliest if none of these tokens is likelier. No target is `IGNORED`.
    """
    present_P, index_R = targets_R.unique(return_inverse=True)
    left_out = head.out_features - len(present_P)
    drawn = torch.randperm(head.out_features, device=targets_R.device)[: sample_size + len(present_P)]
    drawn_N = drawn[~torch.isin(drawn, present_P)][:sample_size]
    if not len(drawn_N):  # every token is a target
        return head_cross_entropy(head, hidden_RH, targets_R)
    vectors_CH = head(torch.cat([present_P, drawn_N]))
    weight_C = torch.zeros(len(vectors_CH), device=hidden_RH.device)
    weight_C[len(present_P) :] = math.log(left_out / len(drawn_N))
    logits_RC = at_least_fp32(F.linear(hidden_RH, vectors_CH)) + weight_C
    nll_R = F.cross_entropy(logits_RC, index_R, reduction="none")
    return nll_R, logits_RC.detach().argmax(-1) == index_R


def _losses(head: Callable[[Tensor], Tensor], hidden_RH: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    logits_RV = at_least_fp32(head(hidden_RH))
    nll_R = F.cross_entropy(logits_RV, targets_R, ignore_index=IGNORED, reduction="none")
    return nll_R, logits_RV.detach().argmax(-1) == targets_R


def _again_in_backward(
    head: Callable[[Tensor], Tensor], hidden_RH: Tensor, targets_R: Tensor
) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, Tensor] = checkpoint(
        _losses, head, hidden_RH, targets_R, use_reentrant=False, preserve_rng_state=False
    )
    return out
