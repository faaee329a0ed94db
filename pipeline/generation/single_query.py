"""Attention of one query per document, as generation has it, at the speed of memory on a CPU.

PyTorch's scaled dot-product attention of a single bf16 query reads keys and values at 2 GB/s on one core that reads 16
(512 to 4,096 keys of 12 heads of 64), batched matrix products at 11 to 17 where the keys of all heads are contiguous.
In a part of a larger cache they are not, and PyTorch would copy them: there products with the keys on the left read 4
to 10 GB/s, and for many keys a product per head 8. Heads that share keys are one product.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sllm_single_query"
MANY_KEYS = 2048
"""From this number on, a product for each head costs less than what a batched one loses."""


def single_query(
    q_BA1K: Tensor, k_BGXK: Tensor, v_BGXK: Tensor, mask_B11X: Tensor | None, scaling: float
) -> Tensor:
    """Scaled dot-product attention [B, A, 1, K] with keys and values of G groups of heads; the mask is additive or
    true where a key is seen."""
    batch, heads, _, size = q_BA1K.shape
    groups, length = k_BGXK.shape[1:3]
    q = q_BA1K.reshape(batch * groups, heads // groups, size)
    k, v = (x.reshape(batch * groups, length, size) for x in (k_BGXK, v_BGXK))
    if k.is_contiguous() or q.device.type != "cpu":
        scores = torch.bmm(q, k.transpose(1, 2))
    elif length < MANY_KEYS:
        scores = torch.bmm(k, q.transpose(1, 2)).transpose(1, 2)
    else:
        scores = torch.stack([torch.mm(one_q, one_k.T) for one_q, one_k in zip(q, k, strict=True)])
    scores = scores.float() * scaling
    if mask_B11X is not None:
        by_document = scores.reshape(batch, heads, 1, length)
        if mask_B11X.dtype == torch.bool:
            by_document = by_document.masked_fill(~mask_B11X, -torch.inf)
        else:
            by_document = by_document + mask_B11X
        scores = by_document.reshape(batch * groups, heads // groups, length)
    weights = scores.softmax(-1).to(v.dtype)
    if v.is_contiguous() or length < MANY_KEYS or q.device.type != "cpu":
        out = torch.bmm(weights, v)
    else:
        out = torch.stack([torch.mm(one, one_v) for one, one_v in zip(weights, v, strict=True)])
    return out.view(batch, heads, 1, size)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    if query.shape[2] > 1 or query.dtype == torch.float64 or query.shape[3] != value.shape[3]:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return out, None
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    return single_query(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_single_query(model: PreTrainedModel) -> None:
    """Let a model that runs on a CPU with PyTorch's attention use this one for single queries."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
