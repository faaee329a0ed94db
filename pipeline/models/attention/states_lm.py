"""A token-level model with the sentence-level model's memory: it attends to the last positions of earlier chunks of
tokens, cut blindly, inside its layers (`pipeline.models.attention.states`).

It is the control of each design with `sllm.state_attention_sentences`: the same layers, window and memory, but no
sentences, no BOS inside a document, and no trunk.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from pipeline.config.models import BlockKind
from pipeline.errors import ModelError
from pipeline.models.attention.states import WindowAndStates
from pipeline.models.attention_patterns import AttentionPattern
from pipeline.models.blocks import Block, Rotation, new_norm


class StatesLmConfig(PreTrainedConfig):
    """The configuration of a `StatesLm`, saved with it; in `trunk.config` its `model_type` is `states_lm`."""

    model_type = "states_lm"
    attribute_map = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}  # noqa: RUF012

    vocab_size: int = 8192
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    ffn_multiplier: float = 2.6875
    """Feed-forward width divided by hidden size."""
    rope_theta: float = 10_000.0
    sliding_window: int = 16
    """Positions that each layer attends to: the position itself and those before it."""
    chunk_tokens: int = 16
    """Tokens of a chunk; chunks are cut from the start of a window."""
    attended_chunks: int = 64
    """Chunks before its own to whose last positions each position attends, in each layer."""
    initializer_range: float | None = None
    """Standard deviation of fresh weights; none: hidden_size ** -0.5."""
    max_position_embeddings: int | None = None
    """None: the positions are rotary, without a limit."""
    tie_word_embeddings: bool = False
    block: BlockKind = "llama"
    norm_first: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.initializer_range is None:
            self.initializer_range = self.hidden_size**-0.5
        super().__post_init__(**kwargs)


class StatesLm(PreTrainedModel):
    """A causal language model of the blocks of a sentence decoder. Raises `ModelError` for options that do not fit."""

    config: StatesLmConfig
    config_class = StatesLmConfig
    base_model_prefix = "states_lm"
    supports_gradient_checkpointing = True
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012

    def __init__(self, config: StatesLmConfig) -> None:
        super().__init__(config)
        if config.hidden_size % (2 * config.num_heads):
            raise ModelError(
                f"trunk.config: hidden_size ({config.hidden_size}) must be an even multiple of num_heads "
                f"({config.num_heads})"
            )
        if min(config.sliding_window, config.chunk_tokens) < 1 or config.attended_chunks < 0:
            raise ModelError(
                "trunk.config: sliding_window and chunk_tokens must be 1 or more, attended_chunks 0 or more"
            )
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = new_norm(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """The LM head."""
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        """Logits of rows of BOS and tokens [D, L] -> [D, L, V]; other arguments are ignored."""
        return CausalLMOutput(logits=self.head(self.hidden(input_ids)))

    def hidden(self, input_ids_DL: Tensor) -> Tensor:
        """Input of the LM head [D, L, H] for rows of BOS and tokens, padded on the right."""
        num_rows, length = input_ids_DL.shape
        row_D1 = torch.arange(num_rows, device=input_ids_DL.device)[:, None]
        # BOS, in position 0, belongs to the first chunk.
        chunk_L = (torch.arange(length, device=input_ids_DL.device) - 1).clamp(
            min=0
        ) // self.config.chunk_tokens
        per_row = -(-max(length - 1, 1) // self.config.chunk_tokens)
        last_M = ((torch.arange(per_row, device=row_D1.device) + 1) * self.config.chunk_tokens).clamp(
            max=length - 1
        )
        pattern = WindowAndStates(
            row_D1.expand(-1, length).flatten(),
            self.config.sliding_window,
            (row_D1 * per_row + chunk_L).flatten(),
            (row_D1 * length + last_M).flatten(),
            self.config.attended_chunks,
        )
        return self.decode(input_ids_DL.flatten(), pattern).unflatten(0, (num_rows, length))

    def decode(self, tokens_R: Tensor, pattern: AttentionPattern) -> Tensor:
        """The layers, from tokens to the input of the LM head [R, H]."""
        config = self.config
        head_size = config.hidden_size // config.num_heads
        rotation = Rotation(pattern.positions_T, head_size, self.embedding.weight.dtype, config.rope_theta)
        x_RH = self.embedding(tokens_R) * config.hidden_size**0.5
        for block in self.blocks:
            x_RH = block(x_RH, pattern, rotation)
        return self.norm(x_RH)


AutoConfig.register(StatesLmConfig.model_type, StatesLmConfig, exist_ok=True)
AutoModelForCausalLM.register(StatesLmConfig, StatesLm, exist_ok=True)
