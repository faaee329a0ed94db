"""The plot of `sllm compare`."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.reports.figure import closed_as
from pipeline.evaluation.comparison import DesignFigures

_MARKERS = {"token-level": "o", "sentence-level": "^"}
_OFFSETS = ((4, 4), (4, -11), (-15, 4), (-15, -11))
"""Offsets of the numbers beside points, in turn, so that numbers of close points are legible."""
_LABEL_WIDTH = 46
"""Characters of a line of the plot's legend."""


def plot(designs: Sequence[DesignFigures], setting: Mapping[str, Any], form: str) -> bytes:
    """Bits per byte against generated tokens/s for each batch size, against training FLOPs, and by position.

    Each design has a number and a colour; hollow markers are with a cache, a cross is at the speed with drafts. A line
    shows the frontier of token-level models. `form`: `png` or `svg`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter

    batches = [speed.batch for speed in designs[0].speeds]
    columns = math.ceil((len(batches) + 2) / 2)
    figure, grid = pyplot.subplots(
        2, columns, figsize=(5 * columns + 5, 9), layout="constrained", squeeze=False
    )
    axes = grid.flatten()
    for unused in axes[len(batches) + 2 :]:
        unused.axis("off")
    for number, batch in enumerate(batches):
        speeds = [each.speeds[number].tokens_per_second for each in designs]
        _scatter(axes[number], designs, speeds)
        if batch == 1:
            _drafted(axes[number], designs)
        _frontier_line(
            axes[number],
            [
                (each.fastest(batch), each.fewest_bits_per_byte)
                for each in designs
                if each.kind == "token-level"
            ],
        )
        side_by_side = "1 document" if batch == 1 else f"{batch} documents side by side"
        axes[number].set(
            xlabel=f"generated tokens per second, {side_by_side} (right is better)", xscale="log"
        )
        for formatted in (axes[number].xaxis.set_major_formatter, axes[number].xaxis.set_minor_formatter):
            formatted(LogFormatter())
    flops, by_position = axes[len(batches) : len(batches) + 2]
    _scatter(flops, designs, [each.training_flops for each in designs])
    flops.set(xlabel="training FLOPs (left is better)", xscale="log")
    middles = [(low + high) / 2 for low, high in itertools.pairwise(setting["position_edges"])]
    for number, each in enumerate(designs):
        style = "-" if each.kind == "sentence-level" else "--"
        by_position.plot(middles, each.curve, style, color=_color(number))
    by_position.set(xlabel="position in the document (tokens)", xscale="log")
    for axis in axes[: len(batches) + 2]:
        axis.set_ylabel("bits per byte (down is better)")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    return closed_as(figure, form)


def _scatter(axis: Any, designs: Sequence[DesignFigures], x: Sequence[float]) -> None:
    for number, (each, at) in enumerate(zip(designs, x, strict=True)):
        label = f"{number + 1}: {textwrap.fill(each.title, _LABEL_WIDTH, subsequent_indent='     ')}"
        axis.scatter(at, each.bits_per_byte, marker=_MARKERS[each.kind], color=_color(number), label=label)
        axis.annotate(
            str(number + 1),
            (at, each.bits_per_byte),
            fontsize="small",
            xytext=_OFFSETS[number % len(_OFFSETS)],
            textcoords="offset points",
        )
        if each.cached_bits_per_byte is not None:
            axis.scatter(
                at,
                each.cached_bits_per_byte,
                marker=_MARKERS[each.kind],
                facecolors="none",
                edgecolors=_color(number),
            )


def _drafted(axis: Any, designs: Sequence[DesignFigures]) -> None:
    for number, each in enumerate(designs):
        if each.drafted is not None:
            for bits in {each.bits_per_byte, each.fewest_bits_per_byte}:
                axis.scatter(each.drafted.tokens_per_second, bits, marker="x", color=_color(number))


def _frontier_line(axis: Any, points: Sequence[tuple[float, float]]) -> None:
    """Fewest bits per byte of all points that are at least as fast, from the fastest to the slowest."""
    fastest_first = sorted(points, reverse=True)
    best = list(itertools.accumulate((bits for _, bits in fastest_first), min))
    axis.plot([speed for speed, _ in fastest_first], best, ":", color="gray", drawstyle="steps-post")


def _color(number: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["tab20"](number % 20)
