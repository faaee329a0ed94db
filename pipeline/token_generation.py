"""Writing with a token-level model, many documents side by side: what sentence-level writing is measured against.

Shape suffixes: B documents side by side, N tokens so far, V vocabulary.
"""

import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.lm import TokenLm
from pipeline.precision import at_least_fp32
from pipeline.sampling import Sampler


@torch.inference_mode()
def write_tokens(
    model: TokenLm,
    batch: int,
    num_tokens: int,
    context_tokens: int,
    bos_id: int,
    eos_id: int,
    sampler: Sampler,
) -> Tensor:
    """`num_tokens` tokens of each of B new documents that do not end before [B, N].

    With a key/value cache; past the context, the older half is forgotten and the newer half read again.
    """
    model.eval()
    device = next(model.parameters()).device
    tokens_BN = torch.full((batch, 1), bos_id, device=device)
    unread_BN, cache = tokens_BN, DynamicCache(config=model.model.config)
    for _ in range(num_tokens):
        if cache.get_seq_length() == context_tokens:
            cache = DynamicCache(config=model.model.config)
            unread_BN = tokens_BN[:, -max(context_tokens // 2, 1) :]
        logits_BV = model.model(
            input_ids=unread_BN, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        logits_BV = at_least_fp32(logits_BV)
        logits_BV[:, [bos_id, eos_id]] = -torch.inf
        unread_BN = sampler(logits_BV)[:, None]
        tokens_BN = torch.cat([tokens_BN, unread_BN], dim=1)
    return tokens_BN[:, 1:]
