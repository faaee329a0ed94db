"""Generation with a token-level model, many documents side by side: the baseline of sentence-level generation."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.generation.chunk_cache import ChunkCache
from pipeline.generation.preallocated import preallocated_cache
from pipeline.generation.sampling import Sampler
from pipeline.generation.states_lm import StatesLmSteps
from pipeline.models.attention.chunks import ChunkAttentionLm
from pipeline.models.attention.states_lm import StatesLm
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
    start_BT = torch.full((batch, 1), bos_id, device=next(model.parameters()).device)
    steps = next_tokens(model, start_BT, context_tokens, {bos_id, eos_id}, sampler)
    return torch.stack([next(steps) for _ in range(num_tokens)], dim=1)


@torch.inference_mode()
def continue_tokens(
    model: TokenLm,
    prompt: list[int],
    max_tokens: int,
    context_tokens: int,
    bos_id: int,
    eos_id: int,
    sampler: Sampler,
) -> list[int]:
    """Ids of at most `max_tokens` tokens that continue the ids of a prompt, up to EOS, which is left out.

    Only the end of a prompt that fits the context of `context_tokens` is read, and the chunks before it where the model
    attends to them; see `generate_tokens`.
    """
    start_BT = torch.tensor([[bos_id, *prompt]], device=next(model.parameters()).device)
    found: list[int] = []
    steps = next_tokens(model, start_BT, context_tokens, {bos_id} - {eos_id}, sampler)
    while len(found) < max_tokens and (token := int(next(steps))) != eos_id:
        found.append(token)
    return found


def next_tokens(
    model: TokenLm,
    tokens_BT: Tensor,
    context_tokens: int,
    never: Collection[int],
    sampler: Sampler,
    cache: DynamicCache | None = None,
) -> Iterator[Tensor]:
    """The next token [B] of each document, without end; `never`: ids that are not generated; `cache`: of the tokens
    before `tokens_BT`, which a model that attends to chunks does not take."""
    model.eval()
    slides = learned_positions(model.model) is None
    chunks = ChunkCache(model.model, len(tokens_BT)) if isinstance(model.model, ChunkAttentionLm) else None
    states = StatesLmSteps(model.model, len(tokens_BT)) if isinstance(model.model, StatesLm) else None
    assert cache is None or (chunks is None and states is None)
    config = model.model.lm.config if isinstance(model.model, ChunkAttentionLm) else model.model.config
    unread_BT = tokens_BT if cache is not None else tokens_BT[:, -context_tokens:]
    cache = cache or preallocated_cache(config, context_tokens)
    while True:
        if not slides and cache.get_seq_length() == context_tokens:
            unread_BT = tokens_BT[:, -max(context_tokens // 2, 1) :]
            cache = preallocated_cache(config, context_tokens)
        if states is not None:
            logits_BV = states.logits(unread_BT)
        elif chunks is not None:
            chunks.read(tokens_BT[:, 1:])
            logits_BV = chunks.logits(unread_BT, cache)
        else:
            logits_BV = model.model(
                input_ids=unread_BT, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]
        logits_BV = at_least_fp32(logits_BV)
        logits_BV[:, list(never)] = -torch.inf
        token_B = sampler(logits_BV)
        unread_BT = token_B[:, None]
        if chunks is not None:
            tokens_BT = torch.cat([tokens_BT, unread_BT], dim=1)
        elif not slides:
            tokens_BT = torch.cat([tokens_BT[:, -context_tokens:], unread_BT], dim=1)
        yield token_B
