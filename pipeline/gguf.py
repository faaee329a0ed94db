"""Models in GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), written as plain folders.

A GGUF file holds configuration, tokenizer and weights, mostly quantised. `transformers` reads it with the package
`gguf` and gives fp32 weights; all else here reads folders.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from pipeline.errors import ConfigError, ModelError
from pipeline.tokenization.tokenizer import Tokenizer

_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Values of `tokenizer.ggml.pre` for which each digit is a token of its own (llama.cpp, `src/llama-vocab.cpp`).
`transformers` does not read this key: its tokenizer would put the spaces before a number into other tokens."""

_TOKENIZER_KEYS = tuple(
    f"tokenizer.ggml.{name}" for name in ("pre", "tokens", "bos_token_id", "eos_token_id")
)


def is_gguf(path: str) -> bool:
    """Whether this is the path or URL of a GGUF file, by its name."""
    return path.lower().endswith(".gguf")


def write_plain_folder(file: Path, folder: Path) -> None:
    """Write the model in a GGUF file to a new folder: `config.json`, fp32 weights as safetensors, and its tokenizer.

    The weights take 4 bytes per parameter, in memory too. Raises `ConfigError` without the package `gguf`, `ModelError`
    where there is no such file, or `transformers` cannot read it.
    """
    if not file.is_file():
        raise ModelError(f"there is no file {file}: correct the path, or name a folder or hub name")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ConfigError(f"{file} needs the package gguf: pip install 'sllm[graft]'") from error
    try:
        fields = GGUFReader(file).fields
        _write_model(file, folder)
        _write_tokenizer(
            file, folder, {key: fields[key].contents() for key in _TOKENIZER_KEYS if key in fields}
        )
    except (MemoryError, OSError):
        raise
    except (
        Exception
    ) as error:  # of gguf, transformers and tokenizers, which raise any kind for what they do not expect
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"the model in {file} cannot be read: {reason}; get the file again, or name a folder with config.json and "
            "safetensors"
        ) from error


def _write_model(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    config = type(read.config).from_dict(_without_quantization(read.config.to_dict()))
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    # What was read refuses to be saved, since it was quantised.
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)


def _without_quantization(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "quantization_config"}


def _write_tokenizer(file: Path, folder: Path, values: Mapping[str, Any]) -> None:
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    tree = json.loads(read.backend_tokenizer.to_str())
    tokens = values["tokenizer.ggml.tokens"]
    # The library adds default special tokens that the model does not have.
    tree["added_tokens"] = [one for one in tree["added_tokens"] if one["id"] < len(tokens)]
    if values.get("tokenizer.ggml.pre") in _DIGITS_APART:
        digits = {"type": "Digits", "individual_digits": True}
        tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tree["pre_tokenizer"]]}
    special = {
        f"{name}_token": tokens[values[f"tokenizer.ggml.{name}_token_id"]]
        for name in ("bos", "eos")
        if f"tokenizer.ggml.{name}_token_id" in values
    }
    Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(tree)), special).save(folder)
