"""The verdict on a try: its histories beside those of an undisturbed run of the same configuration."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.histories import MEASURED, Runs, Shards, read_model, read_record, read_runs, read_shards


@dataclass
class Verdict:
    """What the histories show."""

    wrong: list[str] = field(default_factory=list)
    """Each thing that is not as it must be."""
    lost: int = 0
    """Documents that are in no shard; steps without their point."""
    twice: int = 0
    """Documents that are in two places; steps with two points."""
    curve: float | None = None
    """Largest difference of a point of a metric from the undisturbed run's; None without training."""


@dataclass(frozen=True)
class Place:
    """Where a job wrote."""

    output: str
    database: Path
    experiment: str


def judge_prepare(place: Place, undisturbed: Shards) -> Verdict:
    """The shards have the bytes of the undisturbed ones, each document once, and the job stands in MLflow once."""
    verdict = Verdict()
    found = read_shards(place.output)
    verdict.lost = len(undisturbed.documents.keys() - found.documents.keys())
    verdict.twice = sum(len(copies) - 1 for copies in found.documents.values())
    differ = [name for name in undisturbed.digests if found.digests.get(name) != undisturbed.digests[name]]
    if differ:
        verdict.wrong.append(f"other bytes than undisturbed: {', '.join(differ[:4])}")
    if strange := sorted(found.digests.keys() - undisturbed.digests.keys()):
        verdict.wrong.append(f"files that the undisturbed run has not: {', '.join(strange[:4])}")
    if found.left:
        verdict.wrong.append(f"unfinished work is left: {', '.join(found.left[:4])}")
    _stands_once(verdict, place)
    return verdict


def judge_training(place: Place, undisturbed: Runs, weights: str) -> Verdict:
    """Each step has one point of each metric with the undisturbed value, the weights have the undisturbed bytes
    (SHA-256 `weights`), and the job stands in MLflow once."""
    verdict = Verdict(curve=0.0)
    found = read_runs(place.database, place.experiment)
    lost: set[int] = set()
    twice: set[int] = set()
    for key, curve in undisturbed.points.items():
        if not key.startswith(("train/", "dev/")) or any(part in key for part in MEASURED):
            continue
        here = found.points.get(key, {})
        lost |= curve.keys() - here.keys()
        twice |= {step for step, values in here.items() if len(values) > 1}
        if more := sorted(here.keys() - curve.keys()):
            verdict.wrong.append(f"{key} has points at steps {more[:4]}")
        for step in curve.keys() & here.keys():
            verdict.curve = max(verdict.curve or 0.0, *(abs(v - curve[step][0]) for v in here[step]))
    verdict.lost, verdict.twice = len(lost), len(twice)
    if lost or twice:
        verdict.wrong.append(f"steps without a point {sorted(lost)[:6]}, with two {sorted(twice)[:6]}")
    if verdict.curve:
        verdict.wrong.append(f"the curves differ by {verdict.curve:.3g}")
    model = read_model(place.output)
    if model is None:
        verdict.wrong.append("there is no model")
    elif model.digest != weights:
        verdict.wrong.append("the weights are other ones")
    _stands_once(verdict, place)
    return verdict


def _stands_once(verdict: Verdict, place: Place) -> None:
    if verdict.lost or verdict.twice:
        verdict.wrong.append(f"{verdict.lost} lost, {verdict.twice} twice")
    record: dict[str, Any] = read_record(place.output) or {}
    if not record.get("finished"):
        verdict.wrong.append("job.json does not say that the job has finished")
    statuses = read_runs(place.database, place.experiment).statuses
    if list(statuses) != [record.get("run_id")]:
        verdict.wrong.append(f"{len(statuses)} MLflow runs, job.json names {record.get('run_id')}")
    elif list(statuses.values()) != ["FINISHED"]:
        verdict.wrong.append(f"the MLflow run is {next(iter(statuses.values()))}")


def line_of_error(log: str) -> tuple[str, str | None]:
    """The last line of a failed command, and what is wrong with it: a traceback, or silence."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    if any("Traceback (most recent call last)" in line for line in lines):
        return lines[-1], "a traceback in place of one line"
    if not lines:
        return "", "no line says why"
    return lines[-1], None
