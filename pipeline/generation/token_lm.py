"""Generation with a token-level model, many documents side by side: the baseline of sentence-level generation."""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from pipeline.generation.sampling import Sampler
from pipeline.models.precision import at_least_fp32
from pipeline.models.token_lm import TokenLm, learned_positions


@torch.inference_mode()
def generate_tokens(
    model: TokenLm,
    batch: int,
    num_tokens: int,
    context_tokens: int,
    bos_id: int,
    eos_id: int,
    sampler: Sampler,
) -> Tensor:
    """`num_tokens` tokens of each of B new documents [B, T]; no document ends earlier.

    The key/value cache holds the last `context_tokens` tokens (at least 2). Each new token replaces the oldest; keys
    keep their positions, as in the sentence decoder's window, so later keys still depend on tokens outside the window.
    A model with learned positions cannot slide: when its context is full, the newer half is recomputed from the first
    position on.
    """
    model.eval()
    device = next(model.parameters()).device
    tokens_BT = torch.full((batch, 1), bos_id, device=device)
    slides = learned_positions(model.model) is None
    unread_BT, cache = tokens_BT, new_cache(model, context_tokens)
    for _ in range(num_tokens):
        if not slides and cache.get_seq_length() == context_tokens:
            unread_BT, cache = tokens_BT[:, -max(context_tokens // 2, 1) :], new_cache(model, context_tokens)
        logits_BV = model.model(
            input_ids=unread_BT, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        logits_BV = at_least_fp32(logits_BV)
        logits_BV[:, [bos_id, eos_id]] = -torch.inf
        unread_BT = sampler(logits_BV)[:, None]
        tokens_BT = torch.cat([tokens_BT, unread_BT], dim=1)
    return tokens_BT[:, 1:]


def new_cache(model: TokenLm, context_tokens: int) -> DynamicCache:
    """An empty cache in which each token attends to itself and at most `context_tokens` - 1 tokens before it."""
    cache = DynamicCache(config=model.model.config)
    for i, layer in enumerate(cache.layers):
        own = getattr(layer, "sliding_window", None)  # of a model with a window of its own
        cache.layers[i] = DynamicSlidingWindowLayer(min(own or context_tokens, context_tokens))
    return cache
