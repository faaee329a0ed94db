"""A graph of artifacts as inline SVG: layers from top to bottom, each box a link to the details on the page."""

import collections
import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.printable import printable

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 164, 50, 20, 40
_BEND_WIDTH = 10
"""Width of the room of a line that passes a layer."""
MOST_IN_LAYER = 5
"""Boxes of a layer; more of them stand in the layers below."""
_MOST_CHARACTERS = 24
_SWEEPS = 6


@dataclasses.dataclass(frozen=True)
class GraphNode:
    """A box of the graph."""

    key: str
    """Its name in `parents`, and the id of the element on the page that says more."""
    kind: str
    """Kind of the artifact: decides the colour."""
    title: str
    subtitle: str
    parents: tuple[str, ...] = ()
    """Keys of what it was made from."""
    is_asked: bool = False
    """Whether the page is about it."""


@dataclasses.dataclass
class _Place:
    """A box, or the bend of a line from `node` to a later layer."""

    node: GraphNode
    layer: int
    is_bend: bool
    above: list["_Place"]
    order: float = 0.0
    x: float = 0.0

    @property
    def width(self) -> float:
        return _BEND_WIDTH if self.is_bend else BOX_WIDTH

    @property
    def top(self) -> float:
        return self.layer * (BOX_HEIGHT + GAP_Y) + 2


def drawing(nodes: Sequence[GraphNode]) -> Markup:
    """The graph as SVG. Parents that are not among `nodes` are left out; there must be no circle."""
    by_key = {node.key: node for node in nodes}
    layers = _layers(by_key)
    places = _places(by_key, layers)
    rows: list[list[_Place]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for place in places:
        rows[place.layer].append(place)
    _arrange(rows)
    width = max((row[-1].x + row[-1].width / 2 for row in rows), default=0) + 2
    height = len(rows) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 4
    lines = [_line(above, place) for place in places for above in place.above]
    boxes = [_box(place) for place in places if not place.is_bend]
    return Markup(
        '<div class="scrolls graph"><svg width="{0:.0f}" height="{1}" viewBox="0 0 {0:.0f} {1}" role="img" '
        'aria-label="Graph of what was made from what">{2}{3}</svg></div>'
    ).format(width, height, Markup("").join(lines), Markup("").join(boxes))


def _layers(by_key: dict[str, GraphNode]) -> dict[str, int]:
    """Layer of each node: below all of its parents, at most `MOST_IN_LAYER` in one."""
    parents = {key: {one for one in node.parents if one in by_key} for key, node in by_key.items()}
    children: dict[str, list[str]] = {key: [] for key in by_key}
    for key, above in parents.items():
        for parent in above:
            children[parent].append(key)
    found: dict[str, int] = {}
    sizes: collections.Counter[int] = collections.Counter()
    missing = {key: len(above) for key, above in parents.items()}
    ready = collections.deque(key for key, count in missing.items() if count == 0)
    while ready:
        key = ready.popleft()
        layer = 1 + max((found[parent] for parent in parents[key]), default=-1)
        while sizes[layer] == MOST_IN_LAYER:
            layer += 1
        found[key] = layer
        sizes[layer] += 1
        for child in children[key]:
            missing[child] -= 1
            if missing[child] == 0:
                ready.append(child)
    assert len(found) == len(by_key), "the graph has no circle"
    # What nothing was made from, such as a corpus of dev files, stands just above what it went into.
    for key, below in children.items():
        layer = min((found[child] for child in below), default=0) - 1
        if below and not parents[key] and layer != found[key] and sizes[layer] < MOST_IN_LAYER:
            sizes[found[key]] -= 1
            sizes[layer] += 1
            found[key] = layer
    used = {layer: index for index, layer in enumerate(sorted(set(found.values())))}
    return {key: used[layer] for key, layer in found.items()}


def _places(by_key: dict[str, GraphNode], layers: dict[str, int]) -> list[_Place]:
    """Boxes, and bends where a line passes a layer; the lines from one node share their bends."""
    found = {(key, layer): _Place(by_key[key], layer, False, []) for key, layer in layers.items()}
    for key, layer in layers.items():
        for parent in dict.fromkeys(one for one in by_key[key].parents if one in by_key):
            above = found[parent, layers[parent]]
            for between in range(layers[parent] + 1, layer):
                if (parent, between) not in found:
                    found[parent, between] = _Place(by_key[parent], between, True, [above])
                above = found[parent, between]
            found[key, layer].above.append(above)
    return list(found.values())


def _arrange(rows: list[list[_Place]]) -> None:
    """Order each row by the middle of its neighbours, in some sweeps down and up; then set x, row by row centred."""
    below: dict[int, list[_Place]] = {}
    for row in rows:
        for index, place in enumerate(row):
            place.order = index
            for above in place.above:
                below.setdefault(id(above), []).append(place)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            for place in row:
                beside = place.above if sweep % 2 == 0 else below.get(id(place), [])
                if beside:
                    place.order = sum(one.x for one in beside) / len(beside) if sweep else place.order
            row.sort(key=lambda place: place.order)
            _spread(row)
    widest = max((row[-1].x + row[-1].width / 2 for row in rows), default=0)
    for row in rows:
        shift = (widest - row[-1].x - row[-1].width / 2) / 2
        for place in row:
            place.x += shift


def _spread(row: list[_Place]) -> None:
    right = 2.0
    for place in row:
        place.x = right + place.width / 2
        right = place.x + place.width / 2 + GAP_X


def _line(above: _Place, place: _Place) -> Markup:
    start = above.top + (0 if above.is_bend else BOX_HEIGHT)
    if above.is_bend:
        start = above.top + BOX_HEIGHT
    middle = (start + place.top) / 2
    straight = f" L {place.x:.1f} {place.top + BOX_HEIGHT}" if place.is_bend else ""
    return Markup('<path class="edge" d="M {0:.1f} {1} C {0:.1f} {2} {3:.1f} {2} {3:.1f} {4}{5}"/>').format(
        above.x, start, middle, place.x, place.top, straight
    )


def _box(place: _Place) -> Markup:
    node, left = place.node, place.x - BOX_WIDTH / 2
    return Markup(
        '<a href="#{key}"><g class="box {kind}{asked}"><title>{title}\n{subtitle}</title>'
        '<rect x="{left:.1f}" y="{top}" width="{width}" height="{height}" rx="8"/>'
        '<text x="{x:.1f}" y="{first}" text-anchor="middle" class="strong">{short}</text>'
        '<text x="{x:.1f}" y="{second}" text-anchor="middle">{small}</text></g></a>'
    ).format(
        key=node.key,
        kind=node.kind,
        asked=" asked" if node.is_asked else "",
        title=printable(node.title),
        subtitle=printable(node.subtitle),
        left=left,
        top=place.top,
        width=BOX_WIDTH,
        height=BOX_HEIGHT,
        x=place.x,
        first=place.top + 21,
        second=place.top + 39,
        short=_short(node.title),
        small=_short(node.subtitle),
    )


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
