"""What differs upstream of two artifacts: configuration, code and packages of the jobs, corpus files."""

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from jobs.lineage.node import LineageNode
from jobs.runner.identity import differing
from pipeline.lineage import Artifact

FILES_SHOWN = 10
_NOTHING = "-"
_SECTIONS = {
    "prepare": ("data", "segmenter", "tokenizer", "prepare"),
    "train-segmenter": ("segmenter_training",),
    "train-lm": ("precision", "stream", "trunk", "lm", "deepspeed", "data", "tokenizer"),
    "train-vae": ("precision", "stream", "trunk", "lm", "vae", "deepspeed"),
    "train-sllm": ("precision", "stream", "trunk", "lm", "vae", "sllm", "deepspeed"),
    "evaluate": ("evaluate", "lm"),
    "generate": ("generate",),
    "compare": ("compare", "evaluate", "lm", "sllm"),
    "graft": ("graft", "evaluate"),
}
"""Sections of the configuration that a job uses; of another job all."""
_PLACES = ("output", "shards", "models", "tracking", "launcher", "ray", "run")
"""Where things are and where jobs run; what is in the folders is compared instead."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference."""

    what: str
    """The job and the key, or the kind of input."""
    a: str
    b: str


def differences(a: LineageNode, b: LineageNode) -> list[Difference]:
    """What differs between two artifacts and all that is upstream of them; empty for equal content.

    Jobs are compared with those of the same verb, corpora by the content of their files. Equal content is not
    followed further: what made it does not matter.
    """
    return list(dict.fromkeys(_between(a, b, set())))


def nothing_differs(a: str, b: str, tree_a: LineageNode, tree_b: LineageNode) -> str:
    """A line for two artifacts without differences, which are named `a` and `b`."""
    if tree_a.artifact.digest == tree_b.artifact.digest:
        return f"{a} and {b} have the same content: SHA-256 {tree_a.artifact.digest}"
    return f"nothing upstream of {a} and {b} is recorded to differ"


def _between(
    a: LineageNode, b: LineageNode, seen: set[tuple[Artifact, Artifact]], reader: str = ""
) -> Iterator[Difference]:
    """`reader`: the job that read them, as the beginning of a line."""
    key = (a.artifact, b.artifact)
    if key in seen or (a.artifact.digest == b.artifact.digest and a.artifact.digest):
        return
    seen.add(key)
    if a.job != b.job:
        yield Difference(f"{a.artifact.kind}: made by", a.job or _NOTHING, b.job or _NOTHING)
    elif a.job is not None:
        are_whole = all("run" in node.config for node in (a, b))
        for name, before, after in differing(_config(a), _config(b)):
            if (before is None or after is None) and not are_whole:
                continue  # MLflow has the keys that were set
            yield Difference(f"{a.job}: {name}", _text(before), _text(after))
    else:
        yield Difference(f"{reader}{a.artifact.kind}", _named(a), _named(b))
        return
    for name, before, after in differing(a.versions, b.versions):
        what = "commit" if name == "git" else f"version of {name}"
        yield Difference(f"{a.job or a.artifact.kind}: {what}", _text(before), _text(after))
    yield from _files(a, b)
    theirs = _by_role(b)
    for role, ours in _by_role(a).items():
        others = theirs.pop(role, [])
        for one, other in zip(ours, others, strict=False):
            yield from _between(one, other, seen, f"{a.job}: ")
        for one in ours[len(others) :]:
            yield Difference(f"{a.job}: {role}", _named(one), _NOTHING)
        for other in others[len(ours) :]:
            yield Difference(f"{a.job}: {role}", _NOTHING, _named(other))
    for role, others in theirs.items():
        for other in others:
            yield Difference(f"{b.job}: {role}", _NOTHING, _named(other))


def _files(a: LineageNode, b: LineageNode) -> Iterator[Difference]:
    """Corpus files by content: of one path, what it was and is; then those of one side alone."""
    ours, theirs = ({one.artifact.digest: one for one in _corpus(node)} for node in (a, b))
    left = [one for digest, one in ours.items() if digest not in theirs]
    right = {one.artifact.path: one for digest, one in theirs.items() if digest not in ours}
    rows: list[Difference] = []
    for one in left:
        other = right.pop(one.artifact.path, None)
        what = f"{a.job}: corpus file"
        rows.append(Difference(what, _named(one), _NOTHING if other is None else _named(other)))
    rows += [Difference(f"{b.job}: corpus file", _NOTHING, _named(one)) for one in right.values()]
    yield from rows[:FILES_SHOWN]
    if len(rows) > FILES_SHOWN:
        counts = [sum(getattr(row, side) != _NOTHING for row in rows[FILES_SHOWN:]) for side in ("a", "b")]
        yield Difference("more corpus files", *(f"{count:,}" for count in counts))


def _corpus(node: LineageNode) -> list[LineageNode]:
    return [each for each in node.made_from if each.artifact.kind == "corpus" and each.job is None]


def _by_role(node: LineageNode) -> dict[str, list[LineageNode]]:
    """The inputs that are no corpus files, by the verb that made them, or their kind."""
    found: dict[str, list[LineageNode]] = collections.defaultdict(list)
    for each in node.made_from:
        if each.artifact.kind != "corpus" or each.job is not None:
            found[each.job or each.artifact.kind].append(each)
    return dict(found)


def _config(node: LineageNode) -> dict[str, Any]:
    used: Sequence[str] = _SECTIONS.get(node.job or "", [*node.config])
    return {name: node.config[name] for name in used if name in node.config and name not in _PLACES}


def _named(node: LineageNode) -> str:
    return f"{PurePosixPath(node.artifact.path).name or node.artifact.path} {node.artifact.digest[:12]}"


def _text(value: Any) -> str:
    return (
        _NOTHING
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
    )
