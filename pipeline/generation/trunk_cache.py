"""The trunk's keys and values of documents that are generated side by side, each at its own sentence.

The trunk is a Hugging Face model, whose own cache takes documents of equal length. This cache holds X sentences of each
of B documents, and passes those of D documents to the trunk.
"""

import inspect
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from pipeline.models.sllm import Sllm


class TrunkCache:
    """The latents of B documents' sentences, and the trunk's keys and values of them."""

    def __init__(self, model: Sllm, batch: int = 1) -> None:
        self.model = model
        weight = model.start_H
        self.latents: list[Tensor] = [weight.new_empty(0, len(weight))] * batch
        self.keys: list[Tensor] = list(self.latents)
        """Keys of the latents for context attention; empty without context attention."""
        self.lengths_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        """Sentences of each document in the cache, including the start vector."""
        self.hidden_BH = weight.new_empty(batch, model.trunk.config.hidden_size)
        self._layers: list[tuple[Tensor, Tensor]] = []  # keys, values [B, A, X, K]
        self._takes_positions = "position_ids" in inspect.signature(model.trunk.forward).parameters
        self._read_all(list(range(batch)))

    def add(self, documents: Sequence[int], latents: Sequence[Tensor]) -> None:
        """Read the next sentences [M, H] of each of these documents. Above the context, the older half is dropped."""
        context = self.model.config.context_sentences
        step: list[int] = []
        again: list[int] = []
        for document, new_MH in zip(documents, latents, strict=True):
            all_MH = torch.cat([self.latents[document], new_MH])
            fits = len(all_MH) <= context
            self.latents[document] = all_MH if fits else all_MH[-max(context // 2, 1) :]
            if self.model.context_attention is not None:
                keys_MH = torch.cat([self.keys[document], self.model.context_attention.key(new_MH)])
                self.keys[document] = keys_MH[-len(self.latents[document]) :]
            (step if fits and len(new_MH) == 1 else again).append(document)
        if again:
            self._read_all(again)
        for group in self._read_together(step):
            self._read_one(group)

    def predict(self, documents: Sequence[int] = (0,)) -> Tensor:
        """Latent of the next sentence of each of these documents [D, H]."""
        return self.model.predicted_latents(self.hidden_BH[list(documents)])

    def stop_probability(self, documents: Sequence[int] = (0,)) -> Tensor:
        """Probability that each of these documents ends here [D]."""
        return self.model.stop_head(self.hidden_BH[list(documents)])[:, 0].sigmoid()

    def earlier(self, document: int) -> tuple[Tensor, Tensor]:
        """Keys and latents of the document's sentences [M, H], for context attention."""
        return self.keys[document], self.latents[document]

    def keep(self, documents: Sequence[int]) -> None:
        """Keep only these documents, as 0, 1, ..."""
        kept = list(documents)
        self.latents = [self.latents[document] for document in kept]
        self.keys = [self.keys[document] for document in kept]
        self.lengths_B, self.hidden_BH = self.lengths_B[kept], self.hidden_BH[kept]
        self._layers = [(keys[kept], values[kept]) for keys, values in self._layers]

    def _read_all(self, documents: list[int]) -> None:
        """Read these documents from their start vector on, padded on the right, where a causal trunk does not
        attend."""
        start_1H = self.model.start_H[None]
        latents_DMH = pad_sequence(
            [torch.cat([start_1H, self.latents[document]]) for document in documents], batch_first=True
        )
        cache = DynamicCache()
        hidden_DMH = self._trunk(latents_DMH, cache)
        lengths_D = torch.tensor([1 + len(self.latents[document]) for document in documents])
        self.hidden_BH[documents] = hidden_DMH[torch.arange(len(documents)), lengths_D - 1]
        self.lengths_B[documents] = lengths_D.to(self.lengths_B.device)
        if not self._layers:
            self._layers = [(self._room(keys), self._room(values)) for keys, values, *_ in cache]
        for (keys_BAXK, values_BAXK), (keys, values, *_) in zip(self._layers, cache, strict=True):
            keys_BAXK[documents, :, : keys.shape[2]] = keys
            values_BAXK[documents, :, : values.shape[2]] = values

    def _read_one(self, documents: list[int]) -> None:
        """Read the last sentence of these documents; a mask hides the empty cells of documents with fewer sentences."""
        lengths_D = self.lengths_B[documents]
        longest = int(lengths_D.max())
        cache = DynamicCache(
            [(k[documents, :, :longest], v[documents, :, :longest]) for k, v in self._layers]
        )
        options = {}
        if bool((lengths_D != longest).any()):
            index_X = torch.arange(longest + 1, device=lengths_D.device)
            seen_DX = (index_X < lengths_D[:, None]) | (index_X == longest)
            options = {"attention_mask": seen_DX.long(), "position_ids": lengths_D[:, None]}
        latents_D1H = torch.stack([self.latents[document][-1:] for document in documents])
        self.hidden_BH[documents] = self._trunk(latents_D1H, cache, **options)[:, 0]
        for (keys_BAXK, values_BAXK), (keys, values, *_) in zip(self._layers, cache, strict=True):
            keys_BAXK[documents, :, lengths_D] = keys[:, :, -1]
            values_BAXK[documents, :, lengths_D] = values[:, :, -1]
        self.lengths_B[documents] += 1

    def _read_together(self, documents: list[int]) -> list[list[int]]:
        """Groups of documents that are read together: all, or for a trunk that takes no positions those at the same
        position."""
        if self._takes_positions:
            return [documents] if documents else []
        length = self.lengths_B.tolist().__getitem__
        return [list(group) for _, group in groupby(sorted(documents, key=length), key=length)]

    def _trunk(self, latents_DMH: Tensor, cache: DynamicCache, **options: Tensor) -> Tensor:
        inputs_DMH = self.model.to_trunk(latents_DMH)
        return self.model.trunk(
            inputs_embeds=inputs_DMH, past_key_values=cache, use_cache=True, **options
        ).last_hidden_state

    def _room(self, like_DAXK: Tensor) -> Tensor:
        _, heads, _, head_size = like_DAXK.shape
        size = self.model.config.context_sentences + 1
        # Not empty: what is masked is multiplied by 0, which must not meet a NaN.
        return like_DAXK.new_zeros(len(self.latents), heads, size, head_size)
