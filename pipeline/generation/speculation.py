"""Lossless speculative decoding (arXiv 2211.17192): cheap drafts, which the model verifies in one pass.

A draft is kept with the probability min(1, p / q), where p is the model's probability of its token and q the drafter's;
the first one that is not kept is replaced by a token sampled from max(0, p - q), normalised. So tokens are distributed
as without drafts; at temperature 0 they are the same ones, but for the rounding of sums.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.generation.preallocated import preallocated_cache, remove_last, seen_mask
from pipeline.generation.sampling import Sampler
from pipeline.models.precision import at_least_fp32
from pipeline.models.token_lm import TokenLm, learned_positions
from pipeline.models.trunk import layers_of


class Drafter(Protocol):
    """Guesses the next tokens of a text."""

    def draft(self, tokens: Sequence[int], count: int, sampler: Sampler) -> tuple[list[int], Tensor | None]:
        """At most `count` next tokens, and the probabilities [N, V] from which each was sampled; None: certain."""


def accepted(
    probabilities_NV: Tensor, drafts: Sequence[int], drafted_NV: Tensor | None, sampler: Sampler
) -> list[int]:
    """The drafts that are kept, and one more token.

    `probabilities_NV`: the model's for each draft, and for the token after them [N + 1, V]; `drafted_NV`: the drafter's
    [N, V].
    """
    chances = torch.rand(len(drafts), generator=sampler.generator).tolist()
    for index, (token, chance) in enumerate(zip(drafts, chances, strict=True)):
        own_V = probabilities_NV[index]
        drafted = 1.0 if drafted_NV is None else float(drafted_NV[index, token])
        if chance * drafted < float(own_V[token]):
            continue
        rest_V = own_V.clone()
        if drafted_NV is None:
            rest_V[token] = 0
        else:
            rest_V = (rest_V - drafted_NV[index]).clamp(min=0)
        return [*drafts[:index], int(sampler.draw(rest_V[None]))]
    return [*drafts, int(sampler.draw(probabilities_NV[-1:]))]


@torch.inference_mode()
def speculate(
    model: TokenLm,
    tokens: Sequence[int],
    context_tokens: int,
    never: Collection[int],
    sampler: Sampler,
    drafter: Drafter,
    drafted: int,
) -> Iterator[list[int]]:
    """The tokens of each pass, 1 to `drafted` + 1, that continue `tokens` (at least one), without end.

    As `pipeline.generation.token_lm.next_tokens` does it for one document.
    """
    model.eval()
    slides = learned_positions(model.model) is None
    text, unread = list(tokens), list(tokens)
    cache = preallocated_cache(model.model.config, context_tokens)
    while True:
        if not slides and cache.get_seq_length() == context_tokens:
            unread = text[-max(context_tokens // 2, 1) :]
            cache = preallocated_cache(model.model.config, context_tokens)
        room = drafted if slides else min(drafted, context_tokens - cache.get_seq_length() - len(unread))
        drafts, drafted_NV = drafter.draft(text, room, sampler) if room > 0 else ([], None)
        logits_NV = read(model, [*unread, *drafts], cache, context_tokens, 1 + len(drafts))
        logits_NV[:, list(never)] = -torch.inf
        found = accepted(sampler.probabilities(logits_NV), drafts, drafted_NV, sampler)
        remove_last(cache, len(drafts) + 1 - len(found))
        text += found
        unread = found[-1:]
        yield found


def read(model: TokenLm, tokens: Sequence[int], cache: Any, context_tokens: int, last: int) -> Tensor:
    """Logits [N, V] after the `last` N of `tokens`, which are added to the cache."""
    weight = next(model.parameters())
    mask = seen_mask(cache, len(tokens), context_tokens, weight.dtype)
    logits_1NV = model.model(
        input_ids=torch.tensor([tokens], device=weight.device),
        attention_mask=None if mask is None else mask.to(weight.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
    ).logits
    return at_least_fp32(logits_1NV[0])


class PromptLookup:
    """Drafts what followed the last tokens where they stood before in the text, longest match first; costs no pass."""

    def __init__(self, longest: int = 3) -> None:
        self._sizes = range(longest, 0, -1)
        self._ends: dict[tuple[int, ...], int] = {}
        self._seen = 0

    def draft(self, tokens: Sequence[int], count: int, sampler: Sampler) -> tuple[list[int], None]:
        """See `Drafter`; the text may only grow between calls."""
        for end in range(self._seen + 1, len(tokens)):  # without the end of the text
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(tokens[end - size : end])] = end
        self._seen = max(len(tokens) - 1, 0)
        for size in self._sizes:
            found = self._ends.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if found is not None:
                return list(tokens[found : found + count]), None
        return [], None


class DraftModel:
    """A smaller token-level model of the same vocabulary."""

    def __init__(self, model: TokenLm, context_tokens: int, never: Collection[int] = ()) -> None:
        self.model, self.context_tokens, self.never = model, context_tokens, list(never)
        self._slides = learned_positions(model.model) is None
        self._cache = preallocated_cache(model.model.config, context_tokens)
        self._text = 0
        """Tokens of the text that were read; after them the cache has `_drafts`."""
        self._drafts: list[int] = []

    def draft(self, tokens: Sequence[int], count: int, sampler: Sampler) -> tuple[list[int], Tensor | None]:
        """See `Drafter`."""
        right = 0  # of the last drafts, how many became text
        for draft, token in zip(self._drafts, tokens[self._text :], strict=False):
            if draft != token:
                break
            right += 1
        remove_last(self._cache, len(self._drafts) - right)
        unread = list(tokens[self._text + right :])
        self._text, self._drafts = len(tokens), []
        found: list[int] = []
        rows: list[Tensor] = []
        while len(found) < count:
            if not self._slides and self._cache.get_seq_length() + len(unread) > self.context_tokens:
                if len(found) > 0:
                    break
                self._cache = preallocated_cache(self.model.model.config, self.context_tokens)
                unread = list(tokens[-max(self.context_tokens // 2, 1) :])
            logits_1V = read(self.model, unread, self._cache, self.context_tokens, 1)
            logits_1V[:, self.never] = -torch.inf
            rows.append(sampler.probabilities(logits_1V))
            found.append(int(sampler.draw(rows[-1])))
            unread = found[-1:]
        self._drafts = found[:-1]
        return found, torch.cat(rows) if rows else None


def first_layers(model: TokenLm, count: int) -> TokenLm:
    """The first layers of a model with its last norm and head: its weights, not copies of them."""
    shared = {id(one): one for one in (*model.parameters(), *model.buffers())}
    small = copy.deepcopy(model, shared)
    del layers_of(small.model)[count:]
    config: Any = small.model.config
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    return small
