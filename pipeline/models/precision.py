"""Sums and losses are computed in fp32 or better, in any precision of the model."""

import torch
from torch import Tensor


def at_least_fp32(x: Tensor) -> Tensor:
    """The same values in the same shape: bf16 and fp16 become fp32, fp64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
