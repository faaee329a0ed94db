"""Plots of a run as SVG: loss curves, lengths of sentences, bits per byte by position.

`matplotlib` is imported where it is needed: it takes a second.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 2000


class LossCurves:
    """The losses of a training job over its steps and tokens; at most 2,000 points, evenly thinned beyond that."""

    def __init__(self) -> None:
        self._points: list[tuple[float, Mapping[str, float]]] = []
        self._every = self._seen = 0

    def add(self, step: float, metrics: Mapping[str, float]) -> None:
        """The metrics of a step, of which NLL per token and `train/tokens` are kept."""
        self._every = self._every or 1
        kept = {
            key: metrics[key]
            for key in ("train/nll_per_token", "dev/nll_per_token", "train/tokens")
            if key in metrics
        }
        if self._seen % self._every == 0 or "dev/nll_per_token" in kept:
            self._points.append((step, kept))
        self._seen += 1
        if len(self._points) > _MOST_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def svg(self) -> str | None:
        """The curves as SVG; None without points."""
        if not self._points:
            return None
        figure = _figure(9, 3.6)
        for axis, of_x, label in zip(
            figure.subplots(1, 2, sharey=True), (None, "train/tokens"), ("step", "tokens"), strict=True
        ):
            for key in ("train/nll_per_token", "dev/nll_per_token"):
                points = [
                    (step if of_x is None else values.get(of_x, math.nan), values[key])
                    for step, values in self._points
                    if key in values
                ]
                if points:
                    axis.plot(
                        *zip(*points, strict=True), ".-" if key == "dev/nll_per_token" else "-", label=key
                    )
            axis.set(xlabel=label)
            axis.grid(alpha=0.3)
        axis.legend()
        figure.axes[0].set_ylabel("loss (nats per token)")
        return _svg(figure)


def sentence_lengths_plot(output: str, most_shards: int) -> str:
    """A histogram of the tokens per sentence in the first `most_shards` train shards of a folder, as SVG.

    Raises `ShardError`.
    """
    from pipeline.shards.reading import open_shards

    shards = open_shards(output)
    records = shards.records("train")[:most_shards]
    lengths = shards.documents("train", range(len(records))).sentence_lengths
    figure = _figure(7, 3.6)
    axis = figure.subplots()
    most = int(lengths.max(initial=1))
    bins: Sequence[float] = [edge + 0.5 for edge in range(most + 1)] if most <= 128 else []
    axis.hist(lengths, bins=bins or 64)
    total = len(shards.records("train"))
    of = "" if len(records) == total else f", {len(records)} of {total} shards"
    axis.set(
        xlabel=f"tokens per sentence (mean {lengths.mean() if len(lengths) else 0:.1f})",
        ylabel="sentences",
        title=f"train: {len(lengths):,} sentences{of}",
    )
    return _svg(figure)


def by_position_plot(edges: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Bits per byte of each model (`curves`) over the position in the document: bin i is from `edges[i]` to
    `edges[i + 1]` tokens; as SVG."""
    figure = _figure(7, 3.8)
    axis = figure.subplots()
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    for name, curve in curves.items():
        axis.plot(middles, curve, ".-", label=name)
    axis.set(xlabel="position in the document (tokens)", ylabel="bits per byte", xscale="log")
    axis.grid(alpha=0.3)
    axis.legend()
    return _svg(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sllm"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
