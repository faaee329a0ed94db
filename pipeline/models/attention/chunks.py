"""A token-level model with the sentence-level model's memory: context attention, over chunks of tokens cut blindly.

It is the control of each sentence-level design with context attention: the same attention after the layers, to latents
of the same kind, but no sentences and no trunk. The latent of a chunk is the normalised sum of its tokens' vectors in
the output embedding, as that of a sentence is with `vae.encoder_layers=0`, `vae.encoder_embedding=output`. A position
attends to the chunks that end at or before the token it predicts.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)

from pipeline.errors import ModelError
from pipeline.models.attention.context import INITIAL_SCALE, ContextAttention, keys_and_values
from pipeline.models.blocks import Head
from pipeline.models.model_folder import on_device
from pipeline.models.trunk import empty_model
from pipeline.stream.batches import ChunkMemory, TokenBatch

UNCHANGED_LOGITS = frozenset(
    {"gemma", "gemma2", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3"}
)
"""Families whose logits are the output of the head, without a cap that is set."""


class ChunkOptions(Protocol):
    """The options of the context attention: of a configuration's section `lm`, or of a saved model."""

    context_attention_heads: int
    context_chunk_tokens: int
    context_chunks: int


def chunk_memory(options: ChunkOptions, context_tokens: int) -> ChunkMemory | None:
    """The chunks before windows of `context_tokens`: with those inside, no position attends to more than
    `context_chunks`. None without context attention."""
    if not options.context_attention_heads:
        return None
    inside = -(-context_tokens // options.context_chunk_tokens)
    return ChunkMemory(options.context_chunk_tokens, max(options.context_chunks - inside, 0))


class ChunkAttentionLmConfig(PreTrainedConfig):
    """The configuration of a `ChunkAttentionLm`, saved with it: that of the token-level model, and its own options."""

    model_type = "chunk_attention_lm"
    sub_configs = {"lm_config": AutoConfig}  # noqa: RUF012

    lm_config: dict[str, Any] | PreTrainedConfig | None = None
    context_attention_heads: int = 4
    context_chunk_tokens: int = 16
    context_chunks: int = 64

    def __post_init__(self, **kwargs: Any) -> None:
        if self.lm_config is None:
            self.lm_config = AutoConfig.for_model("llama")
        elif isinstance(self.lm_config, dict):
            options = dict(self.lm_config)
            self.lm_config = AutoConfig.for_model(options.pop("model_type"), **options)
        for name in ("vocab_size", "hidden_size", "max_position_embeddings"):
            setattr(self, name, getattr(self.lm_config, name))
        super().__post_init__(**kwargs)


class ChunkAttentionLm(PreTrainedModel):
    """A causal language model whose last hidden states attend to the latents of earlier chunks before the LM head.

    Raises `ModelError` for a model whose logits are not the head's output, and for heads that do not divide its width.
    """

    config: ChunkAttentionLmConfig
    config_class = ChunkAttentionLmConfig
    base_model_prefix = "chunk_attention_lm"
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: ChunkAttentionLmConfig) -> None:
        super().__init__(config)
        lm_config = config.lm_config
        assert isinstance(lm_config, PreTrainedConfig)
        capped = getattr(lm_config, "final_logit_softcapping", None) is not None
        if lm_config.model_type not in UNCHANGED_LOGITS or capped:
            raise ModelError(
                f"lm.context_attention_heads: the logits of {lm_config.model_type!r} are not those of its head alone; "
                f"take one of {', '.join(sorted(UNCHANGED_LOGITS))}, without a cap on the logits"
            )
        size = lm_config.hidden_size
        if size % config.context_attention_heads:
            raise ModelError(
                f"lm.context_attention_heads ({config.context_attention_heads}) must divide the model's width, {size}"
            )
        self.lm = empty_model(AutoModelForCausalLM, lm_config, "trunk.config")
        self.lm.set_output_embeddings(Head(size, lm_config.vocab_size, bias=False))
        self.latent_norm = nn.RMSNorm(size, eps=1e-6)
        self.context_attention = ContextAttention(config, size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ContextAttention):
            std = self.context_attention.none_H.shape[0] ** -0.5
            initialization.normal_(module.query.weight, std=std)
            initialization.normal_(module.key.weight, std=std)
            initialization.zeros_(module.none_H)
            initialization.constant_(module.scale_H, INITIAL_SCALE)
        elif isinstance(module, Head):
            std = getattr(self.lm.config, "initializer_range", 0.02)
            initialization.normal_(module.weight, std=std)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.lm.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The LM head, whose vectors are summed to the latents of chunks."""
        return self.lm.get_output_embeddings()

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Input of the LM head [D, L, H]. `batch` has chunks (`TokenWindows` with a `ChunkMemory`)."""
        assert batch.chunks_DCX is not None and batch.visible_DL is not None
        base: Any = self.lm.base_model
        hidden_DLH = base(input_ids=batch.inputs_DL, use_cache=False).last_hidden_state
        latents_DCH = self.latents(batch.chunks_DCX)
        earlier = EarlierChunks(self.context_attention.key(latents_DCH), latents_DCH, batch.visible_DL)
        return self.context_attention(hidden_DLH.flatten(0, 1), earlier).view_as(hidden_DLH)

    def latents(self, chunks_DCX: Tensor) -> Tensor:
        """Latents of chunks of token ids [D, C, X] -> [D, C, H]."""
        return self.latent_norm(self.get_output_embeddings()(chunks_DCX).sum(2))


def with_context_attention(
    model: PreTrainedModel, options: ChunkOptions, read_weights: bool
) -> PreTrainedModel:
    """The model with fresh context attention over chunks, or unchanged where `options` say none.

    Raises `ModelError` where it has context attention by other options.
    """
    names = ("context_attention_heads", "context_chunk_tokens", "context_chunks")
    wanted = {name: getattr(options, name) for name in names}
    if isinstance(model, ChunkAttentionLm):
        for name, value in wanted.items():
            if getattr(model.config, name) != value:
                raise ModelError(
                    f"models.lm has {name} {getattr(model.config, name)}, lm.{name} says {value}: training continues "
                    "only from weights of the same architecture"
                )
        return model
    if not options.context_attention_heads:
        return model
    own = ChunkAttentionLmConfig(lm_config=model.config, **wanted)
    chunked = on_device(lambda: ChunkAttentionLm(own), read_weights)
    chunked.lm.load_state_dict(model.state_dict())
    return chunked


class EarlierChunks:
    """The chunks of rows of tokens: each position attends to the first `visible_DL` of its row."""

    def __init__(self, keys_DCH: Tensor, latents_DCH: Tensor, visible_DL: Tensor) -> None:
        self.keys_DCH, self.latents_DCH, self.visible_DL = keys_DCH, latents_DCH, visible_DL

    def attend(self, q_RAK: Tensor, none_H: Tensor) -> Tensor:
        """Scaled dot-product attention -> [R, A, K]; R = D x L."""
        k_DAMK, v_DAMK = keys_and_values(self.keys_DCH, self.latents_DCH, none_H, q_RAK.shape[1])
        q_DALK = q_RAK.unflatten(0, self.visible_DL.shape).transpose(1, 2)
        index_M = torch.arange(k_DAMK.shape[2], device=q_RAK.device)
        sees_D1LM = (index_M <= self.visible_DL[..., None])[:, None]
        out_DALK = F.scaled_dot_product_attention(q_DALK, k_DAMK, v_DAMK, attn_mask=sees_D1LM)
        return out_DALK.transpose(1, 2).flatten(0, 1)


AutoConfig.register(ChunkAttentionLmConfig.model_type, ChunkAttentionLmConfig, exist_ok=True)
AutoModel.register(ChunkAttentionLmConfig, ChunkAttentionLm, exist_ok=True)
AutoModelForCausalLM.register(ChunkAttentionLmConfig, ChunkAttentionLm, exist_ok=True)
