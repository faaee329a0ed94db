"""Cross-attention of each decoder position to the latents of earlier sentences.

The predicted latent is one vector per sentence, but its tokens depend on different earlier sentences. So after the
decoder's blocks each position attends to all earlier sentences. The values are the latents themselves: with
`encoder_embedding: output`, tokens of the attended sentences become likelier.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.stream.batches import DecodedSentences

INITIAL_SCALE = 0.1
"""Initial scale of what is added to the decoder's output: small compared with that output."""


class ContextAttentionConfig(Protocol):
    """The options of the SLLM's configuration that the context attention uses."""

    context_attention_heads: int


class EarlierLatents(Protocol):
    """Latents of earlier sentences, and which of them each position of the decoder attends to."""

    def attend(self, q_RAK: Tensor, none_H: Tensor) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]; the first key is "none", with the value 0."""


class ContextAttention(nn.Module):
    """Attention of the decoder's positions to the latents of earlier sentences."""

    def __init__(self, config: ContextAttentionConfig, hidden_size: int) -> None:
        super().__init__()
        self.num_heads = config.context_attention_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        """Keys of latents; called before `forward`, since generation keeps them."""
        self.none_H = nn.Parameter(torch.empty(hidden_size))
        """Key of "none"."""
        self.scale_H = nn.Parameter(torch.empty(hidden_size))

    def forward(self, hidden_RH: Tensor, earlier: EarlierLatents) -> Tensor:
        """[R, H] -> [R, H]: the decoder's output plus the result of the attention."""
        q_RAK = self.query(hidden_RH).unflatten(-1, (self.num_heads, -1))
        return hidden_RH + earlier.attend(q_RAK, self.none_H).flatten(1) * self.scale_H


class EarlierInWindow:
    """The sentences of packed windows: a position attends to those before its own in the same window."""

    def __init__(self, keys_DMH: Tensor, latents_DMH: Tensor, decoded: DecodedSentences) -> None:
        self.keys_DMH, self.latents_DMH, self.decoded = keys_DMH, latents_DMH, decoded

    def attend(self, q_RAK: Tensor, none_H: Tensor) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]."""
        decoded, windows = self.decoded, self.decoded.window_positions
        k_DAMK, v_DAMK = keys_and_values(self.keys_DMH, self.latents_DMH, none_H, q_RAK.shape[1])
        sentence_R = decoded.positions.sequence_T
        window_R, index_R = decoded.window_S[sentence_R], decoded.index_S[sentence_R]
        index_M = torch.arange(k_DAMK.shape[2], device=index_R.device)
        outputs = []
        for gather_sl in windows.gathers:
            window_s = window_R[gather_sl[:, 0]]
            sees_s1lM = (index_M <= index_R[gather_sl][..., None])[:, None]
            out_sAlK = F.scaled_dot_product_attention(
                q_RAK[gather_sl].transpose(1, 2), k_DAMK[window_s], v_DAMK[window_s], attn_mask=sees_s1lM
            )
            outputs.append(out_sAlK.transpose(1, 2).reshape(-1, *q_RAK.shape[1:]))
        return torch.cat(outputs)[windows.scatter_T]


def keys_and_values(
    keys_DMH: Tensor, latents_DMH: Tensor, none_H: Tensor, num_heads: int
) -> tuple[Tensor, Tensor]:
    """Per head, with "none" before the first sentence [D, A, 1 + M, K]."""
    keys_DMH = torch.cat([none_H.expand(len(keys_DMH), 1, -1), keys_DMH], dim=1)
    values_DMH = F.pad(latents_DMH, (0, 0, 1, 0))
    k_DAMK, v_DAMK = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (keys_DMH, values_DMH))
    return k_DAMK, v_DAMK
