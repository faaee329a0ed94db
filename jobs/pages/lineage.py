"""The lineage of an artifact as a page: the graph, and a card for each node."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from jobs.pages.graph import GraphNode, drawing
from jobs.pages.rendering import render


@dataclasses.dataclass(frozen=True)
class NodeCard:
    """A box of the graph, and what the page says of it."""

    node: GraphNode
    note: str | None = None
    """How the artifact differs from the recorded one."""
    facts: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    config: str = ""
    """YAML, secrets masked."""
    files: tuple[tuple[str, str, str], ...] = ()
    """Of a group of corpus files: path, digest and documents of the first of them."""
    num_files: int = 0


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two artifacts, and what differs upstream of them."""

    a: str
    b: str
    rows: Sequence[tuple[str, str, str]]
    """What differs, and what it is of each."""
    nothing: str = ""
    """What is said where there are no rows."""


def graph_of(cards: Sequence[NodeCard]) -> Markup:
    """The graph of these nodes."""
    return drawing([card.node for card in cards])


def lineage_page(
    title: str,
    subtitle: str,
    command: str,
    cards: Sequence[NodeCard],
    scores: Sequence[tuple[str, ...]] = (),
    compared: Compared | None = None,
) -> bytes:
    """The page of `sllm lineage --html`; `command` prints the same on a terminal.

    Rows of `scores`: bits per byte, documents, segmenter, model, report.
    """
    graph = graph_of(cards)
    return render(
        "lineage.html",
        title=title,
        subtitle=subtitle,
        command=command,
        cards=cards,
        graph=graph,
        scores=scores,
        compared=compared,
    )
