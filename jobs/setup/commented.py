"""A configuration as YAML with the description of each key above it."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pipeline.config.documentation import all_keys

_WIDTH = 100
"""Characters of a line of comment."""


def commented_yaml(tree: Mapping[str, Any]) -> str:
    """The tree as YAML, in its order. A description that several sections share, such as of training, stands once."""
    descriptions = {key.key: key.description for key in all_keys()}
    return "\n".join(_lines(tree, "", descriptions, set())) + "\n"


def _lines(
    tree: Mapping[str, Any], above: str, descriptions: Mapping[str, str], said: set[str]
) -> Iterator[str]:
    depth = above.count(".")
    indent = "  " * depth
    for name, value in tree.items():
        key = f"{above}{name}"
        if depth == 0:
            yield ""
        description = _first_sentence(descriptions.get(key, ""))
        if description and description not in said:
            said.add(description)
            mark = f"{indent}# "
            yield textwrap.fill(
                description, _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
            )
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, f"{key}.", descriptions, said)
        else:
            yield f"{indent}{name}: {_flow(value)}"


def _first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    for end in (". ", ".\n"):
        text = text.partition(end)[0] + "." if end in text else text
    return " ".join(text.split())


def _flow(value: Any) -> str:
    """The value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()
