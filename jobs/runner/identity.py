"""Comparison of an earlier job with the present one: whether their identities are equal, and the differences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.config.renamed import tree_with_current_names
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted_tree


def refusal(
    earlier: JobRecord,
    job: str,
    before: Mapping[str, Any],
    part: Mapping[str, Any],
    inputs: Sequence[Artifact],
    output: str,
) -> str:
    """The error for a folder with an earlier job's work: the differences and the remedy."""
    state = "finished" if earlier.finished else "unfinished"
    remedy = "name another output, or replace it with --force"
    if earlier.job != job:
        return (
            f"{output} holds the {state} work of {earlier.job} (run {earlier.run_id}), not of {job}: {remedy}"
        )
    changes = list(_changes(before, part))
    then = {(artifact.kind, artifact.digest): artifact.path for artifact in earlier.inputs}
    now = {(artifact.kind, artifact.digest): artifact.path for artifact in inputs}
    changes += [
        f"{kind} {path} is new or changed"
        for (kind, digest), path in now.items()
        if (kind, digest) not in then
    ]
    changes += [f"{kind} {path} is gone" for (kind, digest), path in then.items() if path not in now.values()]
    changes = changes or ["the inputs are in another order"]
    shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
    return (
        f"{output} holds the {state} {job} run {earlier.run_id} of another configuration or input "
        f"({shown}): {remedy}"
    )


def _changes(then: Any, now: Any) -> Iterator[str]:
    for key, before, after in differing(then, now):
        yield f"{key} was {before!r}, is {after!r}"


def differing(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each difference: the dotted key and both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in sorted({*then, *now}):
            yield from differing(then.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif then != now:
        yield key, then, now


def part_of(tree: Mapping[str, Any], sections: Sequence[str], without: Sequence[str]) -> dict[str, Any]:
    """The sections of a configuration that decide a job's result."""
    return {key: _less(value_at(tree, key), key, without) for key in sections}


def _less(node: Any, key: str, without: Sequence[str]) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {
        name: _less(value, f"{key}.{name}", without)
        for name, value in node.items()
        if f"{key}.{name}" not in without
    }


def with_current_options(config: dict[str, Any]) -> dict[str, Any]:
    """An earlier configuration with the defaults of newer options; unchanged if it is no longer valid."""
    try:
        return redacted_tree(Config.model_validate(tree_with_current_names(config)).model_dump(mode="json"))
    except ValidationError:
        return config


def has_grown(then: dict[str, Any], now: dict[str, Any], key: str) -> bool:
    """Whether only the number at `key` differs, and is larger now."""
    changes = {name: (before, after) for name, before, after in differing(then, now)}
    before, after = changes.get(key, (0, 0))
    return changes.keys() == {key} and isinstance(before, int) and before < after


def digests_of(inputs: Sequence[Artifact]) -> list[tuple[str, str]]:
    """Kind and digest of each input, in their order."""
    return [(artifact.kind, artifact.digest) for artifact in inputs]


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of a configuration; None where there is none."""
    node: Any = tree
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
