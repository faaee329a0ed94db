import itertools
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from jobs.pages.graph import BOX_WIDTH, MOST_IN_LAYER, GraphNode, drawing


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    return [
        GraphNode(
            f"n{i}",
            "model",
            f"title {i}",
            "",
            tuple(f"n{j}" for j in range(i) if draw(st.booleans()) and draw(st.booleans())),
        )
        for i in range(count)
    ]


def boxes_of(svg):
    return {
        link.get("href")[1:]: (float(rect.get("x")), float(rect.get("y")))
        for link in svg.iter("a")
        for rect in link.iter("rect")
    }


@given(graphs())
def test_boxes_stand_below_what_they_were_made_from_and_none_over_another(nodes):
    boxes = boxes_of(ElementTree.fromstring(drawing(nodes)))
    assert boxes.keys() == {node.key for node in nodes}
    for node in nodes:
        assert all(boxes[parent][1] < boxes[node.key][1] for parent in node.parents)
    for y in {y for _, y in boxes.values()}:
        row = sorted(x for x, other in boxes.values() if other == y)
        assert all(right - left > BOX_WIDTH for left, right in itertools.pairwise(row))
        assert row[0] >= 0 and len(row) <= MOST_IN_LAYER


@given(graphs())
def test_each_node_is_joined_with_each_of_its_parents(nodes):
    """The lines are followed from the bottom of a parent to the top of what was made from it."""
    svg = ElementTree.fromstring(drawing(nodes))
    boxes = boxes_of(svg)
    pieces: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for path in svg.iter("path"):
        numbers = re.findall(r"-?[\d.]+", path.get("d"))
        pieces.setdefault((numbers[0], numbers[1]), set()).add((numbers[-2], numbers[-1]))
    by_top = {(f"{x + BOX_WIDTH / 2:.1f}", f"{y:g}"): key for key, (x, y) in boxes.items()}
    for node in nodes:
        x, y = boxes[node.key]
        reached, waiting = set(), [(f"{x + BOX_WIDTH / 2:.1f}", f"{y + 50:g}")]
        while waiting:
            for end in pieces.get(waiting.pop(), ()):
                reached.add(by_top.get(end))
                if end not in by_top:
                    waiting.append(end)
        children = {other.key for other in nodes if node.key in other.parents}
        assert children <= reached


def test_many_results_of_one_file_stand_in_several_rows():
    nodes = [
        GraphNode("a", "corpus", "a", ""),
        *(GraphNode(f"m{i}", "model", f"{i}", "", ("a",)) for i in range(12)),
    ]
    boxes = boxes_of(ElementTree.fromstring(drawing(nodes)))
    rows = sorted({y for _, y in boxes.values()})
    assert [sum(other == y for _, other in boxes.values()) for y in rows] == [1, 5, 5, 2]


def test_names_of_files_are_shortened_and_escaped():
    node = GraphNode("a", "corpus", "<b>" + "x" * 80 + "\u202e", 'a"b', ())
    text = str(drawing([node]))
    assert "<b>" not in text and "\u202e" not in text and f"&lt;b&gt;{'x' * 20}…</text>" in text
