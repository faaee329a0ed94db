"""The curves of `report.html`: of training over its steps, and bits per byte over the position in the document."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from infra.tracking.curves import Curves
from jobs.pages.charts import Series, curves
from pipeline.lineage import JobRecord

TITLES = {
    "unigram": "unigram model (control)",
    "lm": "token-level model",
    "lm_with_cache": "the same, with a continuous cache",
    "sllm": "sentence-level LLM",
    "sllm_latents_zeroed": "the same, latents zeroed (control)",
    "sllm_latents_shuffled": "the same, latents of other documents (control)",
    "sllm_with_cache": "sentence-level LLM, with a continuous cache",
}
"""Names of models in an evaluation, in words."""
_METRICS = (
    ("nll_per_token", "nats per document token"),
    ("token_accuracy", "share of tokens predicted"),
)
_BY_POSITION = "bits_per_byte_by_position"


def training_charts(
    stored: Curves, records: Mapping[str, JobRecord]
) -> list[tuple[str, Markup, list[Series], str]]:
    """For each trained model and each metric: title, chart, legend, and the last values."""
    found = []
    for job, record in records.items():
        if record.output.kind != "model":
            continue
        for metric, label in _METRICS:
            names = (f"train/{metric}", f"dev/{metric}")
            of_run = stored.of(record.run_id, record.output.path, names)
            series = [
                Series(name.partition("/")[0], of_run[name], is_dashed=name.startswith("dev/"), color=number)
                for number, name in enumerate(names)
                if name in of_run
            ]
            if series:
                last = "; ".join(
                    f"{one.name} {one.points[-1][1]:.4g} at step {one.points[-1][0]:,}" for one in series
                )
                found.append((f"{job}: {label}", curves(series, "optimizer step", label), series, last))
    return found


def position_chart(
    stored: Curves, record: JobRecord | None, figures: Mapping[str, Any]
) -> tuple[Markup, list[Series]] | None:
    """Bits per byte over the position in the document, and the legend; None without such curves.

    `record` is that of the evaluation with these `figures`.
    """
    if record is None:
        return None
    names = [name for name in TITLES if name in figures]
    of_run = stored.of(record.run_id, record.output.path, [f"{name}/{_BY_POSITION}" for name in names])
    series = [
        Series(
            TITLES[name], of_run[f"{name}/{_BY_POSITION}"], is_dashed=name not in ("lm", "sllm"), color=number
        )
        for number, name in enumerate(names)
        if f"{name}/{_BY_POSITION}" in of_run
    ]
    ends = sorted({x for one in series for x, _ in one.points})
    chart = curves(series, "position in the document (tokens, up to)", "bits per byte", ends[::2])
    return (chart, series) if chart else None
