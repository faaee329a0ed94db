"""The table and the plot of `sllm compare`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.evaluation.comparison import Measured, beyond_frontier

_MARKERS = {"token-level": "o", "sentence-level": "^"}


def markdown(measured: Sequence[Measured], setting: Mapping[str, Any]) -> str:
    """Tables: all figures; effects of single changes; latents replaced; by position in the document."""
    base = next(each for each in measured if each.name == setting["baseline"])
    batches = [speed.batch for speed in base.speeds]
    lines = [
        "# Comparison",
        "",
        f"Trained on {setting['tokens']:,} document tokens each, all stages together; scored on the same documents. "
        f"Written from nothing, {setting['generated_tokens']} tokens a document, key/value caches on both sides, the "
        f"models in turn; {setting['device']}, {setting['threads']} thread(s), torch {setting['torch']}. "
        f"A point is beyond the frontier if no token-level model is both as good and as fast.",
        "",
        *_table(
            [
                "design", "parameters", "bits per byte", f"/ {base.title}", "training tokens", "training TFLOP",
                *(f"tokens/s, batch {batch}" for batch in batches), "MFLOP a written token",
                "bytes a context token", "window bytes", "beyond the frontier",
            ],
            [
                [
                    each.title, f"{each.parameters:,}", f"{each.bits_per_byte:.4f}",
                    f"{each.bits_per_byte / base.bits_per_byte:.3f}", f"{each.training_tokens:,.0f}",
                    f"{each.training_flops / 1e12:,.1f}",
                    *(f"{speed.tokens_per_second:,.0f}" for speed in each.speeds),
                    f"{each.writing_flops_per_token / 1e6:.2f}",
                    f"{each.context_bytes_per_token:,.0f}", f"{each.window_bytes:,.0f}",
                    _frontier(each, measured, batches),
                ]
                for each in measured
            ],
        ),
    ]  # fmt: skip
    if read_again := [each.title for each in measured if not each.slides]:
        lines += [
            "",
            f"Positions are learned in {', '.join(read_again)}: a cache cannot slide, so when it is full the "
            "newer half is read again; speed and FLOPs of writing are of that.",
        ]
    if lossy := setting.get("lossy_documents"):
        lines += [
            "",
            f"**Bits per byte mean nothing here**: of {lossy:,} documents of the dev split the token ids do not give "
            "the text back. Designs may be compared, but with none of another tokenizer.",
        ]
    by_name = {each.name: each for each in measured}
    changed = [(each, by_name[each.changed_from]) for each in measured if each.changed_from in by_name]
    if changed:
        rows = [
            [
                each.title,
                before.title,
                f"{each.bits_per_byte - before.bits_per_byte:+.4f}",
                f"{each.bits_per_byte / before.bits_per_byte:.3f}",
            ]
            for each, before in changed
        ]
        lines += ["", "## One change at a time", ""]
        lines += _table(["design", "changed from", "bits per byte", "ratio"], rows)
    replaced = [each for each in measured if each.ablations]
    if replaced:
        kinds = list(dict.fromkeys(kind for each in replaced for kind in each.ablations))
        rows = [
            [
                each.title,
                f"{each.bits_per_byte:.4f}",
                *(f"{each.ablations[kind]:.4f}" if kind in each.ablations else "" for kind in kinds),
            ]
            for each in replaced
        ]
        lines += ["", "## The predicted latents replaced (bits per byte)", ""]
        lines += _table(["design", "as it is", *(f"latents {kind}" for kind in kinds)], rows)
    lines += ["", "## Bits per byte by position in the document (tokens)", ""]
    edges = setting["position_edges"]
    spans = [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)]
    rows = [[each.title, *("" if math.isnan(x) else f"{x:.3f}" for x in each.curve)] for each in measured]
    lines += _table(["design", *spans], rows)
    return "\n".join(lines) + "\n"


def plot(measured: Sequence[Measured], setting: Mapping[str, Any], file: Path) -> None:
    """Bits per byte against written tokens/s for each batch size, against training FLOPs, and by position.

    Designs have a number and a colour each; a line bounds what token-level models reach.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    batches = [speed.batch for speed in measured[0].speeds]
    columns = math.ceil((len(batches) + 2) / 2)
    figure, grid = pyplot.subplots(
        2, columns, figsize=(5 * columns + 4, 9), layout="constrained", squeeze=False
    )
    axes = grid.flatten()
    for unused in axes[len(batches) + 2 :]:
        unused.axis("off")
    for place, batch in enumerate(batches):
        _scatter(axes[place], measured, [each.speeds[place].tokens_per_second for each in measured])
        _frontier_line(axes[place], [(each.speeds[place].tokens_per_second, each.bits_per_byte) for each in measured
                                     if each.kind == "token-level"])  # fmt: skip
        axes[place].set(xlabel=f"written tokens/s, batch {batch} (right is better)", xscale="log")
    flops, by_position = axes[len(batches) : len(batches) + 2]
    _scatter(flops, measured, [each.training_flops for each in measured])
    flops.set(xlabel="training FLOPs", xscale="log")
    middles = [(low + high) / 2 for low, high in itertools.pairwise(setting["position_edges"])]
    for number, each in enumerate(measured):
        style = "-" if each.kind == "sentence-level" else "--"
        by_position.plot(middles, each.curve, style, color=_color(number))
    by_position.set(xlabel="position in the document (tokens)", xscale="log")
    for axis in axes[: len(batches) + 2]:
        axis.set_ylabel("bits per byte (down is better)")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    figure.savefig(file)
    pyplot.close(figure)


def _scatter(axis: Any, measured: Sequence[Measured], x: Sequence[float]) -> None:
    for number, (each, at) in enumerate(zip(measured, x, strict=True)):
        label = f"{number + 1}: {each.title}"
        axis.scatter(at, each.bits_per_byte, marker=_MARKERS[each.kind], color=_color(number), label=label)
        axis.annotate(
            str(number + 1),
            (at, each.bits_per_byte),
            fontsize="small",
            xytext=(4, 4),
            textcoords="offset points",
        )


def _frontier_line(axis: Any, points: Sequence[tuple[float, float]]) -> None:
    """The fewest bits per byte of all points at least as fast, from the fastest to the slowest."""
    fastest_first = sorted(points, reverse=True)
    best = list(itertools.accumulate((bits for _, bits in fastest_first), min))
    axis.plot([speed for speed, _ in fastest_first], best, ":", color="gray", drawstyle="steps-post")


def _color(number: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["tab20"](number % 20)


def _frontier(each: Measured, measured: Sequence[Measured], batches: Sequence[int]) -> str:
    if each.kind == "token-level":
        return ""
    beyond = [str(batch) for batch in batches if beyond_frontier(each, measured, batch)]
    return f"batch {', '.join(beyond)}" if beyond else "no"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    alignment = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, alignment, *rows)]
