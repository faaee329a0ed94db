"""What the trunk knows of the documents that are being written, each at its own sentence.

Shape suffixes: B documents, R those of them that are read on, N sentences or places, H hidden size, A heads,
K head size, C places that the cache holds.
"""

import inspect
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from pipeline.models.sllm import Sllm


class SentenceMemory:
    """The latents of B documents' sentences, and the trunk's keys and values of them."""

    def __init__(self, model: Sllm, batch: int = 1) -> None:
        self.model = model
        weight = model.start_H
        self.latents: list[Tensor] = [weight.new_empty(0, len(weight))] * batch
        self.keys: list[Tensor] = list(self.latents)
        """Under which a lookup finds the latents; empty without one."""
        self.lengths_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        """Places that the cache holds of each document, the start vector among them."""
        self.hidden_BH = weight.new_empty(batch, model.trunk.config.hidden_size)
        self._layers: list[tuple[Tensor, Tensor]] = []  # keys, values [B, A, C, K]
        self._takes_positions = "position_ids" in inspect.signature(model.trunk.forward).parameters
        self._read_all(list(range(batch)))

    def add(self, documents: Sequence[int], latents: Sequence[Tensor]) -> None:
        """Read the next sentences [N, H] of each of these documents. Past the context, the older half is forgotten."""
        context = self.model.config.context_sentences
        step: list[int] = []
        again: list[int] = []
        for document, new_NH in zip(documents, latents, strict=True):
            known_NH = torch.cat([self.latents[document], new_NH])
            fits = len(known_NH) <= context
            self.latents[document] = known_NH if fits else known_NH[-max(context // 2, 1) :]
            if self.model.lookup is not None:
                keys_NH = torch.cat([self.keys[document], self.model.lookup.key(new_NH)])
                self.keys[document] = keys_NH[-len(self.latents[document]) :]
            (step if fits and len(new_NH) == 1 else again).append(document)
        if again:
            self._read_all(again)
        for group in self._read_together(step):
            self._read_one(group)

    def predict(self, documents: Sequence[int] = (0,)) -> Tensor:
        """Latent of the next sentence of each of these documents [R, H]."""
        return self.model.from_trunk(self.hidden_BH[list(documents)])

    def stop_probability(self, documents: Sequence[int] = (0,)) -> Tensor:
        """Probability that each of these documents ends here [R]."""
        return self.model.stop_head(self.hidden_BH[list(documents)])[:, 0].sigmoid()

    def known(self, document: int) -> tuple[Tensor, Tensor]:
        """Keys and latents of what the document can look up [N, H]."""
        return self.keys[document], self.latents[document]

    def keep(self, documents: Sequence[int]) -> None:
        """Forget all other documents; these are 0, 1, ... from now on."""
        rows = list(documents)
        self.latents = [self.latents[row] for row in rows]
        self.keys = [self.keys[row] for row in rows]
        self.lengths_B, self.hidden_BH = self.lengths_B[rows], self.hidden_BH[rows]
        self._layers = [(keys[rows], values[rows]) for keys, values in self._layers]

    def _read_all(self, documents: list[int]) -> None:
        """Read these documents from their start vector on: padded on the right, where the trunk does not look."""
        start_1H = self.model.start_H[None]
        latents_RNH = pad_sequence(
            [torch.cat([start_1H, self.latents[document]]) for document in documents], batch_first=True
        )
        cache = DynamicCache()
        hidden_RNH = self._trunk(latents_RNH, cache)
        lengths_R = torch.tensor([1 + len(self.latents[document]) for document in documents])
        self.hidden_BH[documents] = hidden_RNH[torch.arange(len(documents)), lengths_R - 1]
        self.lengths_B[documents] = lengths_R.to(self.lengths_B.device)
        if not self._layers:
            self._layers = [(self._room(keys), self._room(values)) for keys, values, *_ in cache]
        for (keys_BACK, values_BACK), (keys, values, *_) in zip(self._layers, cache, strict=True):
            keys_BACK[documents, :, : keys.shape[2]] = keys
            values_BACK[documents, :, : values.shape[2]] = values

    def _read_one(self, documents: list[int]) -> None:
        """Read the last sentence of these documents; where one holds fewer places than another, a mask hides the
        rest."""
        lengths_R = self.lengths_B[documents]
        longest = int(lengths_R.max())
        cache = DynamicCache(
            [(k[documents, :, :longest], v[documents, :, :longest]) for k, v in self._layers]
        )
        options = {}
        if bool((lengths_R != longest).any()):
            places_C = torch.arange(longest + 1, device=lengths_R.device)
            seen_RC = (places_C < lengths_R[:, None]) | (places_C == longest)
            options = {"attention_mask": seen_RC.long(), "position_ids": lengths_R[:, None]}
        latents_R1H = torch.stack([self.latents[document][-1:] for document in documents])
        self.hidden_BH[documents] = self._trunk(latents_R1H, cache, **options)[:, 0]
        for (keys_BACK, values_BACK), (keys, values, *_) in zip(self._layers, cache, strict=True):
            keys_BACK[documents, :, lengths_R] = keys[:, :, -1]
            values_BACK[documents, :, lengths_R] = values[:, :, -1]
        self.lengths_B[documents] += 1

    def _read_together(self, documents: list[int]) -> list[list[int]]:
        """A trunk that cannot be told positions reads together only what is at the same one."""
        if self._takes_positions:
            return [documents] if documents else []
        length = self.lengths_B.tolist().__getitem__
        return [list(group) for _, group in groupby(sorted(documents, key=length), key=length)]

    def _trunk(self, latents_RNH: Tensor, cache: DynamicCache, **options: Tensor) -> Tensor:
        inputs_RNH = self.model.to_trunk(latents_RNH)
        return self.model.trunk(
            inputs_embeds=inputs_RNH, past_key_values=cache, use_cache=True, **options
        ).last_hidden_state

    def _room(self, like_RANK: Tensor) -> Tensor:
        _, heads, _, head_size = like_RANK.shape
        places = self.model.config.context_sentences + 1
        # Not empty: what is masked is multiplied by 0, which must not meet a NaN.
        return like_RANK.new_zeros(len(self.latents), heads, places, head_size)
