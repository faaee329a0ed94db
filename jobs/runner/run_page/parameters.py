"""Parameters of the MLflow run of a job."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.runner.identity import part_of, value_at
from pipeline.config import Config


def run_parameters(
    tree: Mapping[str, Any],
    sections: Sequence[str],
    without: Sequence[str],
    beside: Sequence[str],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The parameters, nested: the keys that decide the job's result and are set, those of `beside` that are not as by
    default, and the segmenter and tokenizer (`tags`) of the shards.

    The whole configuration is a file of the run: what is empty, or decides nothing, would hide what differs.
    """
    default = Config().model_dump(mode="json")
    decisive = part_of(tree, sections, without)
    found: dict[str, Any] = {"output": value_at(tree, "output")}
    for key, node in decisive.items():
        for name, value in _leaves(node, key):
            if value not in (None, "", [], {}):
                _set(found, name, value)
    for key in beside:
        for name, value in _leaves(value_at(tree, key), key):
            if value != value_at(default, name) and not _is_within(name, [*sections, *without]):
                _set(found, name, value)
    for tag, name in (
        ("segmenter", "segmenter.name"),
        ("segmenter.options", "segmenter.options"),
        ("tokenizer.digest", "tokenizer.digest"),
    ):
        if tag in tags:
            _set(found, name, tags[tag])
    return found


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values below a key of the configuration."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}")
    else:
        yield key, node


def _is_within(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _set(tree: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        inner = tree.setdefault(parent, {})
        if not isinstance(inner, dict):  # a key of the user's own, such as one with a dot
            return
        tree = inner
    tree[last] = value
