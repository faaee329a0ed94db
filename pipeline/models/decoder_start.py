"""The decoder of a SentenceVAE from layers of a causal language model of the Llama family.

Such a decoder is the language model with layers left out: with all of them, a window that covers the text, and no
latent, its logits are those of the model.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.errors import ModelError
from pipeline.models.blocks import Block, GatedFeedForward
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.trunk import layers_of

_LAYER = frozenset(
    (
        *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
        *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
        *("input_layernorm.weight", "post_attention_layernorm.weight"),
    )
)
"""Weights of a layer of this family."""


def is_of_this_family(model: PreTrainedModel) -> bool:
    """Whether the layers of a causal language model can be those of a decoder with `vae.block: llama`."""
    base: Any = model.base_model
    first = layers_of(model)[0]
    config = model.config
    heads, hidden = config.num_attention_heads, config.hidden_size
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        {name for name, _ in first.named_parameters()} == _LAYER
        and getattr(config, "hidden_act", None) == "silu"
        and getattr(config, "head_dim", None) in (None, hidden // heads)
        and hidden % heads == 0
        and scaling == "default"
        and isinstance(getattr(getattr(base, "norm", None), "weight", None), Tensor)
    )


def start_decoder(vae: SentenceVae, model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Copy `layers` of `model`, its last norm and its head into the decoder of `vae`, whose embedding is the model's.

    Also scales the latents as the model's token vectors, since a pretrained trunk expects its input at this scale.
    Raises `ModelError` where the shapes or families differ.
    """
    config, options = model.config, vae.config
    what = f"vae.decoder_from_lm={list(layers)}"
    if not is_of_this_family(model) or options.block != "llama":
        raise ModelError(
            f"{what}: only the layers of the Llama family, without biases, can be a decoder's of vae.block=llama, not "
            f"those of this {config.model_type!r} with vae.block={options.block}: set vae.decoder_from_lm=null"
        )
    found = layers_of(model)
    if len(layers) != options.num_layers or max(layers) >= len(found):
        raise ModelError(
            f"{what} must name vae.num_layers={options.num_layers} layers of the model's {len(found)}"
        )
    theta = (getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10_000.0)
    for key, own, wanted in (
        ("vae.hidden_size", options.hidden_size, config.hidden_size),
        ("vae.num_heads", options.num_heads, config.num_attention_heads),
        ("vae.rope_theta", options.rope_theta, theta),
        ("vae.tie_word_embeddings", options.tie_word_embeddings, config.tie_word_embeddings),
    ):
        if own != wanted:
            raise ModelError(f"{what} needs {key}={wanted}, which is {own}")
    base: Any = model.base_model
    with torch.no_grad():
        for block, layer in zip(vae.decoder, layers, strict=True):
            assert isinstance(block, Block)
            _copy_layer(block, found[layer], options.hidden_size**0.5)
        vae.decoder_norm.weight.copy_(base.norm.weight)  # type: ignore[operator]
        if not options.tie_word_embeddings:
            head: Any = model.get_output_embeddings()
            vae.head.weight.copy_(head.weight[: options.vocab_size])
        scale = vae.embedding.weight.square().mean().sqrt()
        vae.latent_norm.weight.copy_(torch.ones_like(vae.latent_norm.weight) * scale)  # type: ignore[operator,arg-type]


def _copy_layer(block: Block, layer: nn.Module, embedding_scale: float) -> None:
    """Copy a layer. What it adds to the residual stream is multiplied by `embedding_scale`, as the embedding is: its
    inputs are normalised, so the stream as a whole is scaled and the logits stay the same."""
    weights = dict(layer.named_parameters())
    q, k, v, out = (weights[f"self_attn.{name}_proj.weight"] for name in "qkvo")
    gate, up, down = (weights[f"mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    # Query heads that share a key and value head get one each.
    k, v = (
        one.unflatten(0, (-1, block.attention.head_size))
        .repeat_interleave(len(q) // len(one), 0)
        .flatten(0, 1)
        for one in (k, v)
    )
    feed_forward = block.feed_forward
    assert isinstance(feed_forward, GatedFeedForward)
    if feed_forward.down.weight.shape != down.shape:
        width, inner = down.shape
        raise ModelError(f"vae.decoder_from_lm needs vae.ffn_multiplier={inner / width!r}")
    block.attention.qkv.weight.copy_(torch.cat([q, k, v]))
    block.attention.out.weight.copy_(out * embedding_scale)
    feed_forward.up.weight.copy_(torch.cat([gate, up]))
    feed_forward.down.weight.copy_(down * embedding_scale)
    block.attention_norm.weight.copy_(weights["input_layernorm.weight"])  # type: ignore[operator]
    block.feed_forward_norm.weight.copy_(weights["post_attention_layernorm.weight"])  # type: ignore[operator]
