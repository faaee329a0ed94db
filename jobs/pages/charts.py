"""Charts as inline SVG, of which the page's style sheet gives the colours."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.printable import printable

WIDTH, HEIGHT = 360, 220
"""Of a chart, in CSS pixels on a phone; on a desktop it is drawn larger."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 38
_MOST_POINTS = 400
"""Points drawn of a curve: more are not seen, and make the page large."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart, or one group of its bars."""

    name: str
    points: Sequence[tuple[float, float]]
    is_dashed: bool = False
    color: int = 0
    """Number of its colour in the style sheet."""


def histogram(bins: Sequence[tuple[str, Sequence[float]]], x_label: str, names: Sequence[str] = ()) -> Markup:
    """Vertical bars: each bin has a label and the share (0 to 1) of each of the groups `names`."""
    groups = max(1, len(names))
    top = max((share for _, shares in bins for share in shares), default=0.0) or 1.0
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(bins))
    width = step * 0.8 / groups
    parts = [_grid_y([(tick, f"{tick:.0%}") for tick in _ticks(0, top)], 0, top)]
    longest = max((len(label) for label, _ in bins), default=0)
    every = math.ceil((longest * 6.5 + 6) / step)  # labels that fit
    for index, (label, shares) in enumerate(bins):
        left = _LEFT + step * (index + 0.1)
        for group, share in enumerate(shares):
            y = _scaled(share, 0, top, HEIGHT - _BOTTOM, _TOP)
            name = f"{names[group]}, " if names else ""
            parts.append(
                Markup(
                    '<rect class="f{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}{}: {:.2%}'
                    "</title></rect>"
                ).format(
                    group, left + width * group, y, width, max(0.0, HEIGHT - _BOTTOM - y), name, label, share
                )
            )
        if index % every == 0:
            parts.append(_text(left + step * 0.4, HEIGHT - _BOTTOM + 14, label, "middle"))
    parts.append(_text((WIDTH + _LEFT) / 2, HEIGHT - 6, x_label, "middle"))
    return _svg(parts, f"Histogram: {x_label}")


def curves(
    series: Sequence[Series], x_label: str, y_label: str, x_ticks: Sequence[float] | None = None
) -> Markup:
    """Lines over a common x axis; values that are not finite are left out.

    With `x_ticks`, positive numbers, the axis is logarithmic and has those.
    """
    drawn = [dataclasses.replace(one, points=_thinned(one.points)) for one in series]
    points = [point for one in drawn for point in one.points]
    if not points:
        return Markup("")
    at_x = (lambda x: x) if x_ticks is None else math.log2
    low_x, high_x = _span([at_x(x) for x, _ in points])
    low_y, high_y = _span([y for _, y in points])
    parts = [_grid_y([(tick, _number(tick)) for tick in _ticks(low_y, high_y)], low_y, high_y)]
    for tick in _ticks(low_x, high_x) if x_ticks is None else x_ticks:
        x = _scaled(at_x(tick), low_x, high_x, _LEFT, WIDTH - _RIGHT)
        anchor = "end" if x > WIDTH - _RIGHT - 12 else "middle"
        parts.append(_text(x, HEIGHT - _BOTTOM + 14, _number(tick), anchor))
    for one in drawn:
        at = [
            (
                _scaled(at_x(x), low_x, high_x, _LEFT, WIDTH - _RIGHT),
                _scaled(y, low_y, high_y, HEIGHT - _BOTTOM, _TOP),
            )
            for x, y in one.points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dashed = " dashed" if one.is_dashed else ""
        parts.append(
            Markup('<polyline class="l{}{}" points="{}"><title>{}</title></polyline>').format(
                one.color, dashed, path, one.name
            )
        )
        if len(at) == 1 or one.is_dashed:  # few points: they are seen themselves
            parts += [
                Markup('<circle class="f{}" cx="{:.1f}" cy="{:.1f}" r="2.5"><title>{}, {}: {}</title></circle>').format(
                    one.color, x, y, one.name, _number(given[0]), _number(given[1])
                )
                for (x, y), given in zip(at, one.points, strict=True)
            ]  # fmt: skip
    parts.append(_text((WIDTH + _LEFT) / 2, HEIGHT - 6, x_label, "middle"))
    return _svg(parts, f"{y_label} over {x_label}")


def doubling_bins(histograms: Sequence[dict[str, int]]) -> list[tuple[str, list[float]]]:
    """Bins whose width doubles, from histograms by lower edge (`1`, `2`, `4`, ...): label, and share in each."""
    edges = sorted({int(edge) for one in histograms for edge in one})
    totals = [max(1, sum(one.values())) for one in histograms]
    few = len(edges) <= _FEW_BINS
    return [
        (
            "1" if edge == 1 else f"{_short(edge)}–{_short(2 * edge - 1) if few else ''}",
            [one.get(str(edge), 0) / total for one, total in zip(histograms, totals, strict=True)],
        )
        for edge in edges
    ]


_FEW_BINS = 8


def _short(edge: int) -> str:
    return f"{edge / 1000:.0f}k" if edge >= 1000 else str(edge)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    every = math.ceil(len(finite) / _MOST_POINTS) or 1
    return [
        *(point for index, point in enumerate(finite) if index % every == 0),
        *(finite[-1:] if every > 1 else []),
    ]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    largest = max(abs(low), abs(high))
    if high - low > 1e-6 * largest:
        return low, high
    around = max(0.5, largest * 0.01)
    return low - around, high + around


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in the span: 3 to 7 of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [
        number * step
        for number in itertools.takewhile(lambda n: n * step <= high + step * 1e-9, itertools.count(first))
    ]


def _scaled(value: float, low: float, high: float, at_low: float, at_high: float) -> float:
    return at_low + (value - low) / (high - low) * (at_high - at_low)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _grid_y(ticks: Sequence[tuple[float, str]], low: float, high: float) -> Markup:
    lines = []
    for tick, label in ticks:
        y = _scaled(tick, low, high, HEIGHT - _BOTTOM, _TOP)
        lines.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, WIDTH - _RIGHT, y, y
            )
            + _text(_LEFT - 5, y + 4, label, "end")
        )
    return Markup("").join(lines)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, printable(text)
    )


def _svg(parts: Sequence[Markup], label: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )
