"""Which tokens of a saved tokenizer are BOS and EOS."""

import json
from pathlib import Path
from typing import Any

import tokenizers


def folder_config(folder: Path, backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """Content of `tokenizer_config.json`.

    If it names neither BOS nor EOS, they are read from the files of older models: `special_tokens_map.json`, or by id
    `config.json`.
    """

    def read(name: str) -> dict[str, Any]:
        tree = json.loads((folder / name).read_bytes()) if (folder / name).is_file() else {}
        if not isinstance(tree, dict):
            raise ValueError(f"{name} holds no object")
        return tree

    config = read("tokenizer_config.json")
    if config.get("bos_token") or config.get("eos_token"):
        return config
    kinds = ("bos_token", "eos_token")
    found = {kind: token for kind, token in read("special_tokens_map.json").items() if kind in kinds}
    if not found:
        ids = {kind: read("config.json").get(f"{kind}_id") for kind in kinds}
        first = {
            kind: value[0] if isinstance(value, list) and value else value for kind, value in ids.items()
        }
        named = {
            kind: backend.id_to_token(value)
            for kind, value in first.items()
            if isinstance(value, int) and 0 <= value < 2**32
        }
        found = {kind: token for kind, token in named.items() if token}
    return {**config, **found}
