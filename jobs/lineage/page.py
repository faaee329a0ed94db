"""A lineage tree as the cards of a page."""

import collections
import dataclasses
import hashlib
import shlex
from collections.abc import Iterator, Sequence

import yaml

from jobs.lineage.differences import Difference, nothing_differs
from jobs.lineage.node import LineageNode
from jobs.lineage.scores import Score
from jobs.pages.graph import GraphNode
from jobs.pages.lineage import Compared, NodeCard, lineage_page
from pipeline.config.paths import is_url
from pipeline.lineage import Artifact
from pipeline.redaction import redacted, redacted_tree

FILES_SHOWN = 200
FEW_FILES = 2
"""So many corpus files have a box each; more of them share one."""
MOST_NODES = 150
"""Artifacts on a page: the nearest ones."""
MOST_CONFIGS = 60
"""Nodes whose configuration is on the page."""


@dataclasses.dataclass
class _Graph:
    nodes: dict[str, LineageNode]
    parents: dict[str, dict[str, None]]
    groups: dict[str, tuple[LineageNode, ...]]


def cards_of(*roots: LineageNode) -> list[NodeCard]:
    """A card for each artifact of the trees, `roots` first; corpus files that one job read share a card."""
    graph = _Graph({}, {}, {})
    _collect(roots, graph)
    asked = {_key(root.artifact) for root in roots}
    cards = [
        _card(key, node, tuple(graph.parents.get(key, ())), key in asked, number < MOST_CONFIGS)
        for number, (key, node) in enumerate(graph.nodes.items())
        if number < MOST_NODES
    ]
    if left_out := len(graph.nodes) - len(cards):
        note = f"{left_out:,} more artifacts are not on this page; --json lists all"
        cards[0] = dataclasses.replace(cards[0], note="; ".join(filter(None, (cards[0].note, note))))
    shown = {parent for card in cards for parent in card.node.parents}
    return cards + [_group(key, files) for key, files in graph.groups.items() if key in shown]


def page_of(root: LineageNode, scores: Sequence[Score] = ()) -> bytes:
    """The page of this tree, and of the scores of models below it."""
    path = redacted(root.artifact.path)
    rows = [_row(score) for score in scores]
    return lineage_page(
        f"Lineage of {_name(root.artifact)}", path, f"sllm lineage {path}", cards_of(root), rows
    )


def page_of_two(
    a: str, b: str, tree_a: LineageNode, tree_b: LineageNode, found: Sequence[Difference]
) -> bytes:
    """The page of what differs upstream of two artifacts, which are named `a` and `b`, with both trees."""
    named = redacted(a), redacted(b)
    rows = [(each.what, redacted(each.a), redacted(each.b)) for each in found]
    compared = Compared(*named, rows, "" if found else nothing_differs(*named, tree_a, tree_b))
    names = " and ".join(_name(tree.artifact) for tree in (tree_a, tree_b))
    return lineage_page(
        f"What differs upstream of {names}",
        " and ".join(named),
        f"sllm lineage {shlex.join(named)}",
        cards_of(tree_a, tree_b),
        compared=compared,
    )


def _row(score: Score) -> tuple[str, ...]:
    documents = f"{score.documents:,}" if score.documents else "not recorded"
    report = redacted(score.report)
    return f"{score.bits_per_byte:.4f}", documents, score.segmenter or "unknown", score.model, report


def _collect(roots: Sequence[LineageNode], graph: _Graph) -> None:
    waiting = collections.deque(roots)
    while waiting:
        node = waiting.popleft()
        key = _key(node.artifact)
        known = graph.nodes.get(key)
        if known is not None and not (known.job is None and node.job is not None):
            _link(node, graph)
            continue
        graph.nodes[key] = node
        waiting += _link(node, graph)


def _link(node: LineageNode, graph: _Graph) -> list[LineageNode]:
    """Note what `node` was made from and went into -> the adjacent nodes with cards of their own."""
    key = _key(node.artifact)
    files = [each for each in node.made_from if each.job is None and each.artifact.kind == "corpus"]
    grouped = files if len(files) > FEW_FILES else []
    if grouped:
        graph.groups.setdefault(f"files-of-{key}", tuple(grouped))
        graph.parents.setdefault(key, {})[f"files-of-{key}"] = None
    apart = {id(each) for each in grouped}
    above = [each for each in node.made_from if id(each) not in apart]
    for each in above:
        graph.parents.setdefault(key, {})[_key(each.artifact)] = None
    for each in node.went_into:
        graph.parents.setdefault(_key(each.artifact), {})[key] = None
    return [*above, *node.went_into]


def _key(artifact: Artifact) -> str:
    digest = artifact.digest or "unfinished"
    return f"{artifact.kind}-{digest[:16]}-{hashlib.sha256(artifact.path.encode(errors='replace')).hexdigest()[:8]}"


def _name(artifact: Artifact) -> str:
    path = redacted(artifact.path).rstrip("/")
    return path.rpartition("/")[2] or path


def _card(
    key: str, node: LineageNode, parents: tuple[str, ...], is_asked: bool, with_config: bool
) -> NodeCard:
    subtitle = node.job or node.artifact.digest[:12]
    box = GraphNode(key, node.artifact.kind, _name(node.artifact), subtitle, parents, is_asked)
    return NodeCard(
        box,
        note=node.note,
        facts=tuple(_facts(node)),
        metrics=tuple((name, f"{value:,.6g}") for name, value in sorted(node.metrics.items())),
        versions=tuple(sorted(node.versions.items())),
        config=_yaml(node) if with_config else "",
    )


def _facts(node: LineageNode) -> Iterator[tuple[str, str]]:
    artifact = node.artifact
    yield ("URL" if is_url(artifact.path) else "path"), redacted(artifact.path)
    yield "SHA-256", artifact.digest or "none yet"
    code = f"{node.code[:12]}{' with changes' if '+' in node.code else ''}" if node.code else None
    times = [each[:19].replace("T", " ") for each in (node.started, node.finished) if each]
    who = f"{node.user} on {node.host}" if node.user and node.host else node.user or node.host
    for name, value in (
        ("made by", node.job and f"sllm {node.job}"),
        ("when (UTC)", " to ".join(times)),
        ("by whom", who),
        ("MLflow run", artifact.run_id),
        ("Ray job", node.ray_job),
        ("code", code),
        ("segmenter", node.segmenter),
        ("its digest", node.segmenter_digest),
        ("tokenizer", node.tokenizer),
        ("content", None if node.is_verified is None else "as recorded" if node.is_verified else "differs"),
        ("made from other content", _paths(node.stale)),
        ("documents", node.documents and _documents(node.documents)),
        ("command", node.command),
        ("to make it again", node.again),
    ):
        if value:
            yield name, redacted(value)


def _paths(nodes: Sequence[LineageNode], most: int = 5) -> str:
    rest = f", and {len(nodes) - most:,} more" if len(nodes) > most else ""
    return ", ".join(each.artifact.path for each in nodes[:most]) + rest


def _documents(documents: dict[str, int]) -> str:
    return ", ".join(f"{count:,} in {split}" for split, count in documents.items())


def _yaml(node: LineageNode) -> str:
    if not node.config:
        return ""
    return yaml.safe_dump(redacted_tree(node.config), sort_keys=False, allow_unicode=True)


def _group(key: str, files: tuple[LineageNode, ...]) -> NodeCard:
    shown = files[:FILES_SHOWN]
    return NodeCard(
        GraphNode(key, "corpus", f"{len(files):,} corpus files", _name(files[0].artifact) + ", …"),
        files=tuple(
            (
                redacted(each.artifact.path),
                each.artifact.digest[:12],
                _documents(each.documents) if each.documents else "",
            )
            for each in shown
        ),
        num_files=len(files),
    )
