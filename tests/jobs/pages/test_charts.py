import math
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from jobs.pages.charts import HEIGHT, WIDTH, Series, curves, doubling_bins, histogram

POINTS = st.lists(st.tuples(st.integers(0, 10**7), st.floats(width=32)), max_size=30)


@given(st.lists(POINTS, min_size=1, max_size=3))
def test_curves_stay_in_the_picture_whatever_the_values(groups):
    series = [Series(f"<{i}>", sorted(points), is_dashed=i == 1) for i, points in enumerate(groups)]
    drawn = str(curves(series, "step", "loss"))
    finite = [y for points in groups for _, y in points if math.isfinite(y)]
    assert (drawn == "") == (not finite)
    if not finite:
        return
    root = ElementTree.fromstring(drawn)
    for line in root.iter("polyline"):
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT
    assert 2 <= len(list(root.iter("line"))) <= 12


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    points = [(i, 5 / (1 + i)) for i in range(10_000)]
    (line,) = ElementTree.fromstring(curves([Series("train", points)], "step", "loss")).iter("polyline")
    drawn = line.get("points").split()
    assert len(drawn) <= 402 and drawn[-1].startswith(f"{WIDTH - 8}.0,")


def test_bars_have_the_shares_of_their_bins():
    bins = doubling_bins([{"1": 1, "2": 3}, {"2": 1, "4": 1}])
    assert bins == [("1", [0.25, 0.0]), ("2–3", [0.75, 0.5]), ("4–7", [0.0, 0.5])]
    bars = list(ElementTree.fromstring(histogram(bins, "tokens", ["train", "dev"])).iter("rect"))
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[2] == max(heights) and heights[1] == 0
    assert bars[2][0].text == "train, 2–3: 75.00%"
