"""Bits per byte of all models that were evaluated on shards of a corpus: which segmenter, which design is best."""

import dataclasses
from collections.abc import Iterator, Mapping

from jobs.lineage.node import LineageNode

_METRIC = "bits_per_byte"
_CONTROLS = ("unigram", "_zeroed", "_shuffled")
"""Names, or ends of names, of what is no model of its own: controls in reports."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A model in a report. Those of the same documents, and only those, can be compared."""

    bits_per_byte: float
    model: str
    """Its name in the report: `lm`, `sllm`, or a variant of a comparison."""
    segmenter: str | None
    """Name and options of the segmenter of the shards that it was evaluated on."""
    report: str
    documents: int
    """Dev documents that were scored; 0 where the report does not say."""
    num_bytes: int
    """UTF-8 bytes of their text."""


def scores(node: LineageNode) -> list[Score]:
    """The scores in all reports below a node, those of most documents first, then the lowest bits per byte.

    A report counts for the shards that it read, not for those that its models were trained on.
    """
    found = {(score.report, score.model): score for score in _below(node)}
    return sorted(found.values(), key=lambda one: (-one.documents, -one.num_bytes, one.bits_per_byte))


def _below(node: LineageNode) -> Iterator[Score]:
    for each in node.went_into:
        if node.artifact.kind == "shards" and each.artifact.kind == "report":
            yield from _in_report(each, node.segmenter)
        yield from _below(each)


def _in_report(report: LineageNode, segmenter: str | None) -> Iterator[Score]:
    for name, value in report.metrics.items():
        model, _, metric = name.rpartition("/")
        if metric == _METRIC and model and not model.endswith(_CONTROLS):
            yield Score(
                value,
                model,
                segmenter,
                report.artifact.path,
                _number(report.metrics, model, "documents"),
                _number(report.metrics, model, "bytes"),
            )


def _number(metrics: Mapping[str, float], model: str, name: str) -> int:
    return int(metrics.get(f"{model}/{name}", metrics.get(name, 0)))
