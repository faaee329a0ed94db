"""The record of a job, `job.json`, as a configuration: its job can be run again."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.renamed import tree_with_current_names
from pipeline.errors import ConfigError
from pipeline.redaction import MASK, is_secret, redacted_tree

_FEWEST_CHARACTERS = 4
"""Shorter values of variables are no secrets."""


def is_record(tree: Mapping[str, Any]) -> bool:
    """Whether a mapping is the record of a job, and no configuration."""
    return {"job", "identity", "config", "output"} <= tree.keys() and isinstance(tree["config"], dict)


def config_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in a record, under today's names. The address of a store with a masked password is left out."""
    tree = tree_with_current_names(record["config"])
    tracking = tree.get("tracking")
    if isinstance(tracking, dict) and _is_masked("uri", tracking.get("uri")):
        tree["tracking"] = {**tracking, "uri": None}
    return tree


def check_secrets(tree: Mapping[str, Any], path: str) -> None:
    """Raise `ConfigError` where a secret of the job of the record at `path` was masked, and no override gives it."""
    if masked := [key for key, text in _texts(tree) if _is_masked(key, text)]:
        raise ConfigError(
            f"{path}: {', '.join(masked)} held a secret, which no record holds: add "
            + " ".join(f"{key}=VALUE" for key in masked)
            + "; a secret that is given as ${VARIABLE} is recorded by that name"
        )


def with_references(tree: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration without secrets: each is the `${VARIABLE}` of this process that holds it, else `***`."""
    by_length = sorted(os.environ.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    variables = {name: value for name, value in by_length if len(value) >= _FEWEST_CHARACTERS}
    found: dict[str, Any] = _referenced(tree, "", variables)
    return found


def _referenced(value: Any, key: str, variables: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _referenced(child, str(name), variables) for name, child in value.items()}
    if isinstance(value, list):
        return [_referenced(child, key, variables) for child in value]
    masked = redacted_tree(value, key)
    if masked == value or "://" not in value:  # variables are resolved in paths and URLs alone
        return masked
    written = value
    for name, content in variables.items():
        if _holds_secret(key, written) and content in written:
            written = written.replace(content, f"${{{name}}}")
    return masked if _holds_secret(key, written) else written


def _holds_secret(key: str, text: str) -> bool:
    return is_secret(text) or is_secret(f"{key}={text}")


def _is_masked(key: str, text: Any) -> bool:
    if not isinstance(text, str) or MASK not in text:
        return False
    return "://" in text or (text == MASK and redacted_tree("secret", key.rpartition(".")[2]) == MASK)


def _texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a tree with their dotted keys."""
    if isinstance(tree, Mapping):
        for name, child in tree.items():
            yield from _texts(child, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list | tuple):
        for child in tree:
            yield from _texts(child, key)
    elif isinstance(tree, str):
        yield key, tree
