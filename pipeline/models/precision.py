"""Sums and losses are taken in fp32 or better, whatever the model computes in."""

import torch
from torch import Tensor


def at_least_fp32(x: Tensor) -> Tensor:
    """bf16 and fp16 become fp32; fp64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
