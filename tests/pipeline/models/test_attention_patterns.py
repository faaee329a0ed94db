"""Attention patterns are attention under their masks."""

import pytest
import torch
from torch.nn import functional as F

from pipeline.models.attention_patterns import SlidingWindow


@pytest.mark.parametrize("size", [1, 3, 9, 30, 200])
def test_a_sliding_window_is_attention_under_a_mask(size):
    torch.manual_seed(0)
    document = torch.tensor([0] * 7 + [1] * 40 + [2] + [3] * 12)
    q, k, v = torch.randn(3, len(document), 2, 8, dtype=torch.float64)
    pattern = SlidingWindow(document, size)
    positions = torch.arange(len(document))
    distance = positions[:, None] - positions
    mask = (document[:, None] == document) & (distance >= 0) & (distance < size)
    q1, k1, v1 = (x.transpose(0, 1) for x in (q, k, v))
    expected = F.scaled_dot_product_attention(q1, k1, v1, attn_mask=mask).transpose(0, 1)
    assert torch.allclose(pattern.attend(q, k, v, layer=0), expected, atol=1e-12)
    assert pattern.positions_T.tolist() == [*range(7), *range(40), 0, *range(12)]
