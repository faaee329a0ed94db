"""The training step of the published reference, rebuilt from its description for `sllm bench train`.

Each sentence is padded to 64 tokens and each passage to 64 sentences, a batch is a Python loop over passages, the
cross-attention to a single vector has queries and keys, and the head computes logits for padding too. Sizes, trunk and
documents are those of our step. So is the fused attention, which the published reference lacks.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.blocks import sinusoids
from pipeline.models.sllm import Sllm
from pipeline.models.trunk import empty_trunk
from pipeline.stream.batches import IGNORED, SentenceBatch

TOKENS, SENTENCES = 64, 64
"""Length to which the reference pads."""

Passage = tuple[Tensor, Tensor]
"""Tokens `[64, 64]` of a passage, and the length of each sentence `[64]`."""


class ReferenceStep(nn.Module):
    """Encoder, trunk, decoder and loss as in the reference, with the sizes of one of our models."""

    def __init__(self, model: Sllm) -> None:
        super().__init__()
        config = model.vae.config
        hidden = config.hidden_size
        shape = (hidden, config.num_heads, int(config.ffn_multiplier * hidden), 0.0)

        def layers(kind: type[nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(kind(*shape, batch_first=True) for _ in range(config.num_layers))

        self.embedding = nn.Embedding(config.vocab_size, hidden)
        self.encoder, self.decoder = layers(nn.TransformerEncoderLayer), layers(nn.TransformerDecoderLayer)
        self.norm = nn.LayerNorm(hidden)
        self.trunk = empty_trunk(model.trunk.config)
        self.stop_head = nn.Linear(hidden, 2)
        self.head = nn.Linear(hidden, config.vocab_size)

    def forward(self, passages: Iterable[Passage]) -> Tensor:
        """Sum of the losses of the passages, computed one after the other: a scalar."""
        return torch.stack([self._loss(tokens_SL, lengths_S) for tokens_SL, lengths_S in passages]).sum()

    def _loss(self, tokens_SL: Tensor, lengths_S: Tensor) -> Tensor:
        positions_L = torch.arange(TOKENS, device=tokens_SL.device)
        padding_SL = positions_L >= lengths_S[:, None].clamp(min=1)
        x_SLH = self.embedding(tokens_SL)
        x_SLH = x_SLH + sinusoids(TOKENS, x_SLH.shape[-1], x_SLH.device, x_SLH.dtype)
        states_SLH = x_SLH
        for layer in self.encoder:
            states_SLH = layer(states_SLH, src_key_padding_mask=padding_SL)
        latents_SH = self.norm((states_SLH * ~padding_SL[..., None]).sum(1))
        hidden_SH = self.trunk(inputs_embeds=latents_SH[None], use_cache=False).last_hidden_state[0]
        causal_LL = positions_L[:, None] < positions_L
        states_SLH = x_SLH[1:]
        for layer in self.decoder:
            states_SLH = layer(
                states_SLH,
                hidden_SH[:-1, None],
                tgt_mask=causal_LL,
                tgt_key_padding_mask=padding_SL[1:],
            )
        logits_SLV = self.head(states_SLH)
        targets_SL = torch.where(padding_SL, IGNORED, tokens_SL)[1:]
        targets_SL = F.pad(targets_SL[:, 1:], (0, 1), value=IGNORED)
        nll = F.cross_entropy(
            logits_SLV.flatten(0, 1).float(), targets_SL.flatten(), ignore_index=IGNORED, reduction="none"
        )
        focal = ((1 - (-nll).exp()) ** 2 * nll).sum()
        stop_S = (lengths_S == 0).long()
        return focal + F.cross_entropy(self.stop_head(hidden_SH).float(), stop_S, reduction="sum")


def passages_of(batch: SentenceBatch) -> tuple[list[Passage], int]:
    """The windows of a batch as passages of the reference, and how many of their tokens it keeps."""
    passages, kept = [], 0
    lengths_S = batch.sentences.lengths_S.tolist()
    sentences = batch.tokens_T.split(lengths_S)
    for window in range(len(batch.document_D)):
        members = (batch.window_S == window).nonzero()[:SENTENCES, 0].tolist()
        tokens_SL = torch.zeros(SENTENCES, TOKENS, dtype=torch.int64)
        kept_S = torch.zeros(SENTENCES, dtype=torch.int64)
        for row, sentence in enumerate(members):
            ids = sentences[sentence][:TOKENS]
            tokens_SL[row, : len(ids)] = ids
            kept_S[row] = len(ids)
        passages.append((tokens_SL, kept_S))
        kept += int(kept_S.sum())
    return passages, kept
