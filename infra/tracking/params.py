"""A configuration as the parameters of an MLflow run, and back."""

import json
import re
from collections.abc import Mapping
from typing import Any

_PARAM_CHARACTERS = 6000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-. :/]")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` as `{"a.b": "1"}`; a value too long for one parameter continues in `a.b:1`, ..."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = _NOT_IN_NAMES.sub("_", f"{prefix}{key}")
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        pieces = [text[i : i + _PARAM_CHARACTERS] for i in range(0, len(text), _PARAM_CHARACTERS)] or [""]
        flat.update({name if i == 0 else f"{name}:{i}": piece for i, piece in enumerate(pieces)})
    return flat


def unflatten(params: Mapping[str, str]) -> dict[str, Any]:
    """The inverse of `flatten`; strings that look like JSON are parsed."""
    whole: dict[str, str] = {}
    for key in sorted(params, key=lambda name: (name.partition(":")[0], int(name.partition(":")[2] or 0))):
        name = key.partition(":")[0]
        whole[name] = whole.get(name, "") + params[key]
    tree: dict[str, Any] = {}
    for key, value in whole.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        try:
            node[last] = json.loads(value)
        except ValueError:
            node[last] = value
    return tree
