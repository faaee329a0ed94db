"""The token-level language model: the baseline on the same tokens, and the source of the SLLM's trunk."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.config import TrunkConfig
from pipeline.models.attention.chunks import ChunkAttentionLm, chunk_memory
from pipeline.models.attention.states_lm import StatesLm
from pipeline.models.cross_entropy import head_cross_entropy
from pipeline.models.model_folder import load_model
from pipeline.models.precision import at_least_fp32
from pipeline.stream.batches import IGNORED, ChunkMemory, TokenBatch

HEAD_IS_LAST = frozenset({"gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3"})
"""Families whose logits are the unchanged output of the head, so that they can be computed in chunks."""


class TokenLm(nn.Module):
    """A Hugging Face causal language model that takes a `TokenBatch`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def score(self, batch: TokenBatch) -> Tensor:
        """Negative log-likelihood (nats) of each target [D, L]; 0 where the target is ignored.

        It needs no attention mask: rows are padded on the right, where a causal model does not attend.
        """
        targets = batch.targets_DL.flatten()
        if isinstance(self.model, ChunkAttentionLm | StatesLm):
            head: Any = self.model.get_output_embeddings()
            given: Any = batch.inputs_DL if isinstance(self.model, StatesLm) else batch
            nll, _ = head_cross_entropy(head, self.model.hidden(given).flatten(0, 1), targets)
        elif self.model.config.model_type in HEAD_IS_LAST:
            base: Any = self.model.base_model
            hidden_DLH = base(input_ids=batch.inputs_DL, use_cache=False).last_hidden_state
            head = self.model.get_output_embeddings()
            nll, _ = head_cross_entropy(head, hidden_DLH.flatten(0, 1), targets)
        else:
            logits_DLV = self.model(input_ids=batch.inputs_DL, use_cache=False).logits
            logits = at_least_fp32(logits_DLV.flatten(0, 1))
            nll = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        return nll.view_as(batch.targets_DL)

    def memory(self, context_tokens: int) -> ChunkMemory | None:
        """The chunks before its windows of `context_tokens`; none without context attention."""
        if not isinstance(self.model, ChunkAttentionLm):
            return None
        return chunk_memory(self.model.config, context_tokens)

    def forward(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Sums over the batch, each a scalar: `objective` (to minimise) and `nll` (nats), here the same."""
        nll = self.score(batch).sum()
        return {"objective": nll, "nll": nll.detach()}


def learned_positions(model: PreTrainedModel) -> int | None:
    """Number of learned positions, which limits the context; None: the positions are rotary, without a limit."""
    base: Any = (model.lm if isinstance(model, ChunkAttentionLm) else model).base_model
    tokens = model.get_input_embeddings()
    learned = any(isinstance(part, nn.Embedding) and part is not tokens for part in base.modules())
    return int(model.config.max_position_embeddings) if learned else None


def load_causal_lm(path: str, config: TrunkConfig | None = None) -> PreTrainedModel:
    """A causal language model from a folder or hub name, in fp32. Raises `ModelError` where there is none."""
    config = config or TrunkConfig()
    return load_model(
        AutoModelForCausalLM,
        path,
        "causal language model",
        dtype=torch.float32,
        attn_implementation=config.attention,
        trust_remote_code=config.trust_remote_code,
    )
