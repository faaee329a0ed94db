"""FLOPs of training and generation, and memory of the context, computed from the matrices of a model.

Matrix products are counted, without padding: 2 FLOPs per weight and position, and 4 per query, attended key and unit of
width in attention. The backward pass adds as much for the gradient of the inputs, and as much for that of the trained
weights. These are the "model FLOPs" of arXiv 2204.02311, appendix B, but with only the causal half of attention.

`flops_of` counts what PyTorch runs, for any module; tests compare the two.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from pipeline.evaluation.workload import Positions, Workload
from pipeline.models.attention.chunks import ChunkAttentionLm
from pipeline.models.attention.states_lm import StatesLm
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, learned_positions
from pipeline.stream.batches import Batch

Model = TokenLm | SentenceVae | Sllm


@dataclass(frozen=True)
class ModelPart:
    """Matrices of a model that are multiplied with the same positions."""

    name: str
    positions: Positions
    matrix_weights: int
    """Weights that each position is multiplied with."""
    trained_weights: int
    """The trained ones among them."""
    features: int = 0
    """Inputs and outputs of its matrices, for each position."""
    attention_width: int = 0
    """Heads x head size, summed over layers."""
    pairs: Literal["token_pairs", "decoder_pairs", "trunk_pairs", "context_pairs"] = "token_pairs"
    has_backward: bool = True
    """Whether the gradient of the loss flows through."""

    def forward_flops(self, work: Workload) -> float:
        """FLOPs of the forward pass."""
        attention = 4.0 * self.attention_width * getattr(work, self.pairs)
        return 2.0 * self.matrix_weights * work.positions(self.positions) + attention

    def training_flops(self, work: Workload) -> float:
        """FLOPs of forward and backward pass, without recomputation."""
        forward = self.forward_flops(work)
        if not self.has_backward:
            return forward
        attention = 4.0 * self.attention_width * getattr(work, self.pairs)
        return 2.0 * forward + attention + 2.0 * self.trained_weights * work.positions(self.positions)


def model_parts(model: Model) -> tuple[ModelPart, ...]:
    """The parts of a model, which may be on the meta device."""
    if isinstance(model, TokenLm):
        return tuple(_token_lm_parts(model))
    if isinstance(model, SentenceVae):
        return tuple(_vae_parts(model, into_encoder=True))
    return (*_vae_parts(model.vae, into_encoder=not model.config.freeze_vae), *_trunk_parts(model))


def forward_flops(parts: Iterable[ModelPart], work: Workload) -> float:
    """FLOPs of a forward pass over `work`."""
    return sum(part.forward_flops(work) for part in parts)


def training_flops(parts: Iterable[ModelPart], work: Workload) -> float:
    """FLOPs of a training step over `work`, without the optimizer's."""
    return sum(part.training_flops(work) for part in parts)


def generation_flops(model: Model, tokens_per_sentence: float, context_tokens: float) -> float:
    """FLOPs of one generated token after `context_tokens` tokens, with a key/value cache of all of them."""
    if isinstance(model, TokenLm):
        return forward_flops(model_parts(model), Workload.generated_token(context_tokens))
    sentences = context_tokens / tokens_per_sentence
    work = Workload.generated_sentence(tokens_per_sentence, sentences, _decoder_window(model))
    return forward_flops(model_parts(model), work) / tokens_per_sentence


def long_generation_flops(model: TokenLm | Sllm, tokens_per_sentence: float, context_tokens: int) -> float:
    """Mean FLOPs per generated token in a document that is far longer than the context.

    A token-level model with a context of `context_tokens` drops the oldest token for each new one. With learned
    positions it recomputes the newer half when the context is full, as the trunk does with `context_sentences`
    sentences.
    """
    parts = model_parts(model)
    if isinstance(model, TokenLm):
        if learned_positions(model.model) is None:
            return forward_flops(parts, Workload.generated_token(context_tokens - 1))
        layers, head = parts
        work, tokens = Workload.generated_tokens_until_full(context_tokens)
        return (layers.forward_flops(work) + head.forward_flops(Workload(tokens=tokens))) / tokens
    work, sentences = Workload.generated_sentences_until_full(
        tokens_per_sentence, model.config.context_sentences, _decoder_window(model)
    )
    return forward_flops(parts, work) / (sentences * tokens_per_sentence)


def _decoder_window(model: SentenceVae | Sllm) -> int:
    vae = model.vae if isinstance(model, Sllm) else model
    return vae.config.decoder_window


def context_bytes_per_token(
    model: TokenLm | Sllm, tokens_per_sentence: float, bytes_per_value: int = 2
) -> float:
    """Elements of memory per token of context: keys and values. In a sentence-level model: the keys, values and latent
    of a sentence, and its key in the context attention or its keys and values in the decoder, divided by its tokens."""
    if isinstance(model, TokenLm):
        return float(bytes_per_value * _key_value_width(_lm_config(model)))
    latents = (
        2 if model.context_attention is not None else 1
    )  # cross-attention to earlier sentences has a key for each
    vae = model.vae.config
    if model.config.state_attention_sentences:  # a key and a value of each sentence in each layer
        latents += 2 * vae.num_layers
    width = _key_value_width(model.trunk.config) + latents * vae.hidden_size
    return bytes_per_value * width / tokens_per_sentence


def context_memory(model: TokenLm | Sllm, tokens_per_sentence: float) -> tuple[float, float]:
    """Bytes of keys, values and latents: per token of context, and in all for a sliding window."""
    size = next(model.parameters()).element_size()
    per_token = context_bytes_per_token(model, tokens_per_sentence, size)
    if isinstance(model, TokenLm) and isinstance(model.model, ChunkAttentionLm):
        latents = 2.0 * size * model.model.config.hidden_size / model.model.config.context_chunk_tokens
        return per_token + latents, 0.0
    if isinstance(model, TokenLm):
        window = getattr(model.model.config, "sliding_window", None)
        if isinstance(model.model, StatesLm):
            return per_token / model.model.config.chunk_tokens, per_token * model.model.config.sliding_window
        return (0.0, per_token * window) if window else (per_token, 0.0)
    vae = model.vae.config
    return per_token, float(size * 2 * vae.num_layers * vae.hidden_size * vae.decoder_window)


def num_parameters(module: nn.Module, trained: bool = False) -> int:
    """Number of parameters, tied ones once; with `trained` without the frozen ones."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def flops_of(run: Callable[[], Any]) -> int:
    """FLOPs of the matrix products and attention that PyTorch runs in `run()`, including padding and masked keys."""
    aten = torch.ops.aten
    # PyTorch's table lacks the CPU's own attention.
    on_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        run()
    return counter.get_total_flops()


def training_flops_of(module: nn.Module, batch: Batch) -> int:
    """FLOPs that PyTorch runs in a forward and backward pass of any module over `batch`."""
    flops = flops_of(lambda: module(batch)["objective"].backward())
    module.zero_grad()
    return flops


def _cpu_attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _cpu_attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def _token_lm_parts(model: TokenLm) -> Iterator[ModelPart]:
    head = model.model.get_output_embeddings()
    layers = [module for module in _matrices(model.model) if module is not head]
    width = _attention_width(_lm_config(model))
    yield _part("layers", "tokens", layers, attention_width=width)
    yield _part("head", "tokens", [head])


def _lm_config(model: TokenLm) -> PreTrainedConfig:
    """The configuration of its layers. Context attention is counted as two matrices, its keys and values not at all:
    `flops_of` counts them."""
    found: PreTrainedConfig = getattr(model.model.config, "lm_config", model.model.config)
    return found


def _vae_parts(vae: SentenceVae, into_encoder: bool) -> Iterator[ModelPart]:
    width = len(vae.decoder) * vae.config.hidden_size
    to_latent = [
        matrix
        for name, module in vae.decoder.named_modules()
        if name.endswith("latent_attention")
        for matrix in _matrices(module)
    ]
    decoder = [matrix for matrix in _matrices(vae.decoder) if matrix not in to_latent]
    if vae.latent_prefix is not None:
        to_latent = _matrices(vae.latent_prefix)
    others = [*_matrices(vae.encoder), *decoder, *to_latent, vae.head]
    posterior = [module for module in _matrices(vae) if module not in others]
    encoder_width = len(vae.encoder) * vae.config.hidden_size
    encoder = _part("encoder", "tokens", _matrices(vae.encoder), attention_width=encoder_width)
    for part in (encoder, _part("posterior", "sentences", posterior)):
        yield part if into_encoder else replace(part, has_backward=False)
    yield _part("latent into decoder", "decoded_sentences", to_latent)
    yield _part("decoder", "decoder_positions", decoder, attention_width=width, pairs="decoder_pairs")
    yield _part("head", "decoder_positions", [vae.head])


def _trunk_parts(model: Sllm) -> Iterator[ModelPart]:
    trunk = [*_matrices(model.to_trunk), *_matrices(model.trunk)]
    width = _attention_width(model.trunk.config)
    yield _part("trunk", "trunk_positions", trunk, attention_width=width, pairs="trunk_pairs")
    codes = [] if model.codes is None else [model.codes.head]
    yield _part("out of trunk", "sentences", [*_matrices(model.from_trunk), model.stop_head, *codes])
    if model.config.state_attention_sentences:
        width = len(model.vae.decoder) * model.vae.config.hidden_size
        states: dict[str, Any] = {"attention_width": width, "pairs": "context_pairs"}
        yield _part("attention to states", "decoder_positions", [], **states)
    if model.context_attention is not None:
        yield _part("keys of earlier sentences", "sentences", [model.context_attention.key])
        width = model.vae.config.hidden_size
        yield _part(
            "attention to earlier sentences",
            "decoder_positions",
            [model.context_attention.query],
            attention_width=width,
            pairs="context_pairs",
        )


def _part(name: str, positions: Positions, matrices: Iterable[nn.Module], **options: Any) -> ModelPart:
    weights = [
        weight for module in matrices for name, weight in module.named_parameters() if name == "weight"
    ]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    features = sum(sum(weight.shape) for weight in weights)
    return ModelPart(name, positions, sum(weight.numel() for weight in weights), trained, features, **options)


def _matrices(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, nn.Linear | Conv1D)]


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _attention_width(config: PreTrainedConfig) -> int:
    return config.num_hidden_layers * config.num_attention_heads * _head_size(config)


def _key_value_width(config: PreTrainedConfig) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * _head_size(config)
