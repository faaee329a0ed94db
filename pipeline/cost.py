"""What models cost, on paper: FLOPs of training and of writing, and memory of the context.

Counted are the products of matrices: 2 FLOPs a weight and row, and 4 a query, key and unit of width in attention, where
a query is charged for the keys that it sees (a causal one for half of them) and never for padding. Backward: as much
again for the gradient of the inputs, and for that of the weights that are trained. These are the "model FLOPs" of
arXiv 2204.02311, appendix B, with causal attention counted once and not twice.

`flops_of` counts what PyTorch really runs instead, whatever the design; tests hold the two beside each other.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from pipeline.batches import Batch
from pipeline.lm import TokenLm
from pipeline.sllm import Sllm
from pipeline.vae import SentenceVae

Rows = Literal["tokens", "decoder_rows", "sentences", "decoded_sentences", "trunk_rows"]
Model = TokenLm | SentenceVae | Sllm


@dataclass(frozen=True)
class Workload:
    """How many rows pass each part of a model, and how many (query, key) pairs its attention has."""

    tokens: float = 0.0
    """Document tokens: rows of the sentence encoder, and of a token-level model."""
    scored_tokens: float = 0.0
    """Those of them that are predicted, and not context alone; of a sentence-level model the decoder's."""
    sentences: float = 0.0
    decoded_sentences: float = 0.0
    windows: float = 0.0
    """Windows of documents; each puts one start vector before its sentences."""
    token_pairs: float = 0.0
    """Pairs in the sentence encoder, or in a token-level model."""
    decoder_pairs: float = 0.0
    """Pairs in the sentence decoder."""
    trunk_pairs: float = 0.0
    """Pairs in the trunk over sentences."""
    lookup_pairs: float = 0.0
    """Pairs of the decoder's rows and the sentences that they look up."""

    def rows(self, kind: Rows) -> float:
        """Rows of a part."""
        return {
            "tokens": self.tokens,
            "decoder_rows": self.scored_tokens + self.decoded_sentences,
            "sentences": self.sentences,
            "decoded_sentences": self.decoded_sentences,
            "trunk_rows": self.sentences + self.windows,
        }[kind]

    @classmethod
    def of_sentences(
        cls, tokens_S: ArrayLike, sentences_D: ArrayLike, context_D: ArrayLike | None = None
    ) -> Self:
        """Training a sentence-level model on sentences of these lengths, in windows of so many sentences, the first
        `context_D` of which the decoder does not write."""
        n_S, n_D = np.asarray(tokens_S, np.float64), np.asarray(sentences_D, np.int64)
        place_S = np.concatenate([np.arange(count) for count in n_D])
        context_D = np.zeros_like(n_D) if context_D is None else np.asarray(context_D)
        decoded_S = place_S >= np.repeat(context_D, n_D)
        rows_S = np.where(decoded_S, n_S + 1, 0)
        return cls(
            tokens=n_S.sum(),
            scored_tokens=n_S[decoded_S].sum(),
            sentences=len(n_S),
            decoded_sentences=decoded_S.sum(),
            windows=len(n_D),
            token_pairs=(n_S**2).sum(),
            decoder_pairs=_causal_pairs(rows_S).sum(),
            trunk_pairs=_causal_pairs(n_D + 1.0).sum(),
            lookup_pairs=(rows_S * (place_S + 1)).sum(),
        )

    @classmethod
    def of_rows(cls, tokens_D: ArrayLike, context_D: ArrayLike = 0) -> Self:
        """Training a token-level model on windows of so many tokens, the first `context_D` of which are read only."""
        n_D = np.asarray(tokens_D, np.float64)
        return cls(
            tokens=n_D.sum(),
            scored_tokens=(n_D - np.asarray(context_D)).sum(),
            windows=len(n_D),
            token_pairs=_causal_pairs(n_D).sum(),
        )

    @classmethod
    def writing_token(cls, context_tokens: float) -> Self:
        """One more token of a token-level model that has `context_tokens` in its cache."""
        return cls(tokens=1.0, scored_tokens=1.0, token_pairs=context_tokens + 1)

    @classmethod
    def writing_sentence(cls, tokens: float, context_sentences: float) -> Self:
        """One more sentence of `tokens` tokens: decoded, read again, passed through the trunk."""
        return cls(
            tokens=tokens,
            scored_tokens=tokens,
            sentences=1.0,
            decoded_sentences=1.0,
            token_pairs=tokens**2,
            decoder_pairs=_causal_pairs(tokens + 1),
            trunk_pairs=context_sentences + 1,
            lookup_pairs=(tokens + 1) * (context_sentences + 1),
        )


@dataclass(frozen=True)
class Part:
    """A piece of a model whose matrices all meet the same rows."""

    name: str
    rows: Rows
    matrix_weights: int
    """Weights that each row is multiplied with."""
    trained_weights: int
    """Those of them that are trained."""
    features: int = 0
    """Inputs and outputs of its matrices, for each row."""
    attention_width: int = 0
    """Heads x head size, summed over layers."""
    pairs: Literal["token_pairs", "decoder_pairs", "trunk_pairs", "lookup_pairs"] = "token_pairs"
    has_backward: bool = True
    """Does the gradient of the loss flow through?"""

    def forward_flops(self, work: Workload) -> float:
        """FLOPs of the forward pass."""
        attention = 4.0 * self.attention_width * getattr(work, self.pairs)
        return 2.0 * self.matrix_weights * work.rows(self.rows) + attention

    def training_flops(self, work: Workload) -> float:
        """FLOPs of forward and backward pass, nothing computed twice."""
        forward = self.forward_flops(work)
        if not self.has_backward:
            return forward
        attention = 4.0 * self.attention_width * getattr(work, self.pairs)
        return 2.0 * forward + attention + 2.0 * self.trained_weights * work.rows(self.rows)


def parts_of(model: Model) -> tuple[Part, ...]:
    """The parts of a model; one on the meta device will do."""
    if isinstance(model, TokenLm):
        return tuple(_token_lm_parts(model))
    if isinstance(model, SentenceVae):
        return tuple(_vae_parts(model, into_encoder=True))
    return (*_vae_parts(model.vae, into_encoder=not model.config.freeze_vae), *_trunk_parts(model))


def forward_flops(parts: Iterable[Part], work: Workload) -> float:
    """FLOPs of a forward pass over `work`."""
    return sum(part.forward_flops(work) for part in parts)


def training_flops(parts: Iterable[Part], work: Workload) -> float:
    """FLOPs of a training step over `work`, without the optimizer's."""
    return sum(part.training_flops(work) for part in parts)


def writing_flops(model: Model, tokens_per_sentence: float, context_tokens: float) -> float:
    """FLOPs of one generated token, `context_tokens` after the start, with key/value caches."""
    if isinstance(model, TokenLm):
        return forward_flops(parts_of(model), Workload.writing_token(context_tokens))
    work = Workload.writing_sentence(tokens_per_sentence, context_tokens / tokens_per_sentence)
    return forward_flops(parts_of(model), work) / tokens_per_sentence


def context_bytes_per_token(
    model: TokenLm | Sllm, tokens_per_sentence: float, bytes_per_value: int = 2
) -> float:
    """Memory that a token of context takes: keys and values; of a sentence-level model, a share of one
    sentence's keys, values and latent, and of its key for a lookup."""
    if isinstance(model, TokenLm):
        return float(bytes_per_value * _key_value_width(model.model.config))
    latents = 2 if model.lookup is not None else 1  # a lookup has a key for each
    width = _key_value_width(model.trunk.config) + latents * model.vae.config.hidden_size
    return bytes_per_value * width / tokens_per_sentence


def num_parameters(module: nn.Module, trained: bool = False) -> int:
    """Parameters, tied ones once; with `trained`, without the frozen ones."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def flops_of(run: Callable[[], Any]) -> int:
    """FLOPs of matrix products and attention that PyTorch runs in `run()`: padding and causally masked keys too."""
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
    """FLOPs that a forward and backward pass over `batch` really runs, whatever the design of the module."""
    flops = flops_of(lambda: module(batch)["objective"].backward())
    module.zero_grad()
    return flops


def _cpu_attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _cpu_attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def _causal_pairs(n: Any) -> Any:
    return n * (n + 1) / 2


def _token_lm_parts(model: TokenLm) -> Iterator[Part]:
    head = model.model.get_output_embeddings()
    layers = [module for module in _matrices(model.model) if module is not head]
    width = _attention_width(model.model.config)
    yield _part("layers", "tokens", layers, attention_width=width)
    yield _part("head", "tokens", [head])


def _vae_parts(vae: SentenceVae, into_encoder: bool) -> Iterator[Part]:
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
    yield _part("decoder", "decoder_rows", decoder, attention_width=width, pairs="decoder_pairs")
    yield _part("head", "decoder_rows", [vae.head])


def _trunk_parts(model: Sllm) -> Iterator[Part]:
    trunk = [*_matrices(model.to_trunk), *_matrices(model.trunk)]
    width = _attention_width(model.trunk.config)
    yield _part("trunk", "trunk_rows", trunk, attention_width=width, pairs="trunk_pairs")
    yield _part("out of trunk", "sentences", [*_matrices(model.from_trunk), model.stop_head])
    if model.lookup is not None:
        yield _part("what can be looked up", "sentences", [model.lookup.key])
        width = model.vae.config.hidden_size
        yield _part(
            "lookup", "decoder_rows", [model.lookup.query], attention_width=width, pairs="lookup_pairs"
        )


def _part(name: str, rows: Rows, matrices: Iterable[nn.Module], **options: Any) -> Part:
    weights = [
        weight for module in matrices for name, weight in module.named_parameters() if name == "weight"
    ]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    features = sum(sum(weight.shape) for weight in weights)
    return Part(name, rows, sum(weight.numel() for weight in weights), trained, features, **options)


def _matrices(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, nn.Linear | Conv1D)]


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _attention_width(config: PreTrainedConfig) -> int:
    return config.num_hidden_layers * config.num_attention_heads * _head_size(config)


def _key_value_width(config: PreTrainedConfig) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * _head_size(config)
