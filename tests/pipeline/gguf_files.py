"""Tiny Llamas in GGUF files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pipeline.tokenization.tokenizer import Tokenizer

TEXTS = [
    "The cat sat on the mat. It was warm, and 12 mice came.\n",
    "A dog ran 345 miles! Why? Nobody knows.\n",
]


def tiny_llama(vocab_size: int, **options: Any) -> PreTrainedModel:
    """A Llama of two layers with random weights; key and value heads are shared by two query heads."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "initializer_range": 0.1, "bos_token_id": 0,
        "eos_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **{**shape, **options}))


def write_gguf(file: Path, pre: str = "smollm") -> tuple[PreTrainedModel, Tokenizer]:
    """A tiny Llama and a tokenizer trained on `TEXTS`, written as a GGUF file of 8-bit weights."""
    tokenizer = Tokenizer.train(TEXTS * 20, 320)
    model = tiny_llama(tokenizer.vocab_size)
    config, writer = model.config, GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(5000.0)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, pre)
    _add_weights(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, tokenizer


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer, pre: str) -> None:
    tree = json.loads(tokenizer.files()["tokenizer.json"])
    by_id = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    special = set(tokenizer.added_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(by_id)
    writer.add_token_types([TokenType.CONTROL if one in special else TokenType.NORMAL for one in by_id])
    writer.add_token_merges([" ".join(pair) for pair in tree["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)


def _add_weights(writer: GGUFWriter, model: PreTrainedModel) -> None:
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        own = name.removeprefix("model.").removesuffix(".weight")
        if own == "embed_tokens":
            own = "token_embd"
        elif own == "norm":
            own = "output_norm"
        else:
            _, layer, part = own.split(".", 2)
            own = f"blk.{layer}.{names[part]}"
        array = weight.numpy()
        if own.endswith(("attn_q", "attn_k")):  # llama.cpp keeps the halves of rotary pairs beside each other
            heads = (
                model.config.num_attention_heads if own.endswith("q") else model.config.num_key_value_heads
            )
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        array = np.ascontiguousarray(array)
        if array.ndim == 1:
            writer.add_tensor(f"{own}.weight", array)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{own}.weight", quantize(array, kind), raw_dtype=kind)
