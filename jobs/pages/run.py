"""`report.html` of `sllm run`: what ran, the corpus, curves, figures, text, lineage, and how to do it again."""

import base64
import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import yaml

from infra.storage import Folder
from infra.tracking.curves import Curves
from jobs.pages.corpus import corpus_view, sample
from jobs.pages.lineage import NodeCard, graph_of
from jobs.pages.rendering import GENERATOR, render
from jobs.pages.run_curves import TITLES, position_chart, training_charts
from jobs.pages.sentences import ShownDocument, ShownSentence
from jobs.reports.evaluation import notes_of, read_report
from jobs.reports.shard_summary import shard_summary
from pipeline.config import Config, StreamConfig
from pipeline.errors import ConfigError, SllmError
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted, redacted_tree
from pipeline.shards.format import SplitName
from pipeline.shards.reading import open_shards

REPORT_NAME = "report.html"
SAMPLE_DOCUMENTS, SAMPLE_SENTENCES = 3, 30
GENERATED_SENTENCES = 200


@dataclasses.dataclass(frozen=True)
class Step:
    """A job of the run."""

    name: str
    record: JobRecord
    is_reused: bool

    @property
    def state(self) -> str:
        """`ran in 2 min 41 s`, or `reused, of 2026-11-26 05:27 UTC`."""
        if self.is_reused:
            return f"reused, of {(self.record.finished or '')[:16].replace('T', ' ')} UTC"
        return f"ran in {_duration(_seconds(self.record))}"

    @property
    def folder(self) -> str:
        """Name of its output folder."""
        return redacted(self.record.output.path).rstrip("/").rpartition("/")[2]

    @property
    def tokens(self) -> str:
        """Tokens that its model was trained on; empty for other jobs."""
        found = self.record.metrics.get("train/tokens") if self.record.output.kind == "model" else None
        return "" if found is None else f"{found:,.0f}"


@dataclasses.dataclass(frozen=True)
class Score:
    """A model's likelihood of the dev documents."""

    name: str
    bits_per_byte: float
    perplexity: float
    parameters: int | None
    share: float
    """Of the largest bits per byte, 0 to 1."""
    is_control: bool


def check_report(output: str) -> None:
    """Raise `ConfigError` where a file of the report's name in `output` is not a report of ours."""
    content = Folder(output).read(REPORT_NAME)
    if content is not None and GENERATOR.encode() not in content[:4096]:
        raise ConfigError(
            f"{output.rstrip('/')}/{REPORT_NAME} is not a report of `sllm run`, which would replace it: move it away"
        )


def run_report(config: Config, steps: Sequence[Step], lineage: Sequence[NodeCard], command: str) -> bytes:
    """The page. A part that cannot be read (damaged shards, a store that is away) is named in place of its content."""
    by_name = {step.name: step.record for step in steps}
    missing: list[str] = []
    figures = _read(missing, "the evaluation", read_report, by_name.get("evaluate"))
    scores = _scores(figures or {})
    stored = Curves(config.tracking.uri)
    shown = redacted_tree(config.model_dump(mode="json"))
    charts = training_charts(stored, by_name)
    by_position = position_chart(stored, by_name.get("evaluate"), figures or {})
    if stored.is_away:
        missing.append("the MLflow store did not answer: curves are those of what waits to be sent to it")
    last = steps[-1].record
    ran = [step for step in steps if not step.is_reused]
    return render(
        "run.html",
        title=f"sllm run: {redacted(str(config.output))}",
        output=redacted(str(config.output)),
        finished=(last.finished or "")[:16].replace("T", " "),
        tiles=_tiles(by_name, scores, figures or {}),
        steps=steps,
        total=_duration(sum(_seconds(step.record) for step in ran)) if ran else "",
        corpus=_read(missing, "the shards", partial(_corpus, config.stream), by_name.get("prepare")),
        charts=charts,
        by_position=by_position,
        scores=scores,
        scored=(figures or {}).get("unigram"),
        vae=(figures or {}).get("vae"),
        starts_from=_starts_from(by_name),
        evaluation_notes=notes_of(figures) if figures else [],
        comparison=_read(missing, "the comparison", _comparison, by_name.get("compare")),
        text=_read(missing, "the generated text", _generated, by_name.get("generate")),
        cards=lineage,
        graph=graph_of(lineage) if lineage else None,
        missing=missing,
        command=redacted(command),
        config=yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
        versions=sorted(last.versions.items()),
        who=[
            (name, value) for name, value in (("by", last.user), ("on", last.host), ("Ray job", last.ray_job)) if value
        ],
        next_commands=_next_commands(by_name),
    )  # fmt: skip


def _read(missing: list[str], what: str, read: Any, record: JobRecord | None) -> Any:
    """What `read` gives for the output of a job; None, and a line in `missing`, where it cannot be read."""
    if record is None:
        return None
    try:
        return read(record.output.path)
    except (SllmError, OSError, ValueError, KeyError) as error:
        missing.append(redacted(f"{what} cannot be read: {error}"))
        return None


def _corpus(options: StreamConfig, folder: str) -> dict[str, Any]:
    shards = open_shards(folder, options)
    view = corpus_view(shards, shard_summary(shards, set()))
    split: SplitName = "dev" if shards.manifest.totals["dev"].documents else "train"
    return {
        "view": view,
        "split": split,
        "documents": sample(shards, split, SAMPLE_DOCUMENTS, SAMPLE_SENTENCES),
    }


def _scores(figures: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    found = {name: one for name, one in figures.items() if "bits_per_byte" in one}
    top = max((one["bits_per_byte"] for one in found.values()), default=1.0) or 1.0
    return [
        Score(
            TITLES.get(name, name),
            one["bits_per_byte"],
            one["perplexity_per_token"],
            int(one["parameters"]) if "parameters" in one else None,
            one["bits_per_byte"] / top,
            name not in ("lm", "sllm"),
        )
        for name, one in found.items()
    ]


def _starts_from(records: Mapping[str, JobRecord]) -> str:
    """What the comparison of the token-level model with the sentence-level one leaves open."""
    models = [records[name] for name in ("train-lm", "train-vae", "train-sllm") if name in records]
    if len(models) < 3:
        return ""
    tokens = [record.metrics.get("train/tokens", 0.0) for record in models]
    return (
        "The sentence-level LLM starts from the weights of the token-level model and of the SentenceVAE: together "
        f"they have seen {sum(tokens):,.0f} tokens, the token-level model {tokens[0]:,.0f}. So the table does not say "
        "which design is better: sllm compare trains designs on the same tokens."
    )


def _tiles(
    records: Mapping[str, JobRecord], scores: Sequence[Score], figures: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    tiles = [
        (f"{score.bits_per_byte:.4f}", f"bits per byte, {score.name}")
        for score in scores
        if not score.is_control
    ]
    if vae := figures.get("vae"):
        tiles.append((f"{vae['token_accuracy']:.1%}", "of tokens reconstructed by the SentenceVAE"))
    if prepare := records.get("prepare"):
        for key, label in (("train/sentences", "train sentences"), ("train/tokens", "train tokens")):
            if key in prepare.metrics:
                tiles.append((f"{prepare.metrics[key]:,.0f}", label))
    return tiles


def _comparison(folder: str) -> dict[str, Any]:
    """Rows of the table of designs, and the plot as a data URI."""
    where = Folder(folder)
    tree = json.loads(where.read("comparison.json") or b"{}")
    rows = [
        (
            str(one.get("title", name)),
            f"{one['bits_per_byte']:.4f}",
            f"{one['parameters']:,}",
            f"{one['training_flops'] / 1e12:,.2f}",
        )
        for name, one in tree.get("variants", {}).items()
    ]
    plot = where.read("comparison.png")
    image = None if plot is None else f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    return {"rows": rows, "image": image, "tokens": tree.get("setting", {}).get("tokens")}


def _generated(folder: str) -> dict[str, Any]:
    kept = json.loads(Folder(folder).read("generated.json") or b"{}")
    texts = kept.get("sentences", [])
    sentences = tuple(ShownSentence(str(one), 0) for one in texts[:GENERATED_SENTENCES])
    shown = ShownDocument("", "", sentences, 0, len(texts), 0, 0)
    return {"prompt": str(kept.get("prompt", "")), "document": shown}


def _next_commands(records: Mapping[str, JobRecord]) -> list[tuple[str, str]]:
    found = []
    if model := records.get("train-sllm"):
        path = redacted(model.output.path)
        found.append((f'sllm generate {path} --prompt "..."', "more text"))
        found.append((f"sllm lineage {path}", "back to the corpus files"))
    if shards := records.get("prepare"):
        path = redacted(shards.output.path)
        found.append((f"sllm inspect {path} --html shards.html", "more sentences"))
    return found


def _seconds(record: JobRecord) -> float:
    if record.finished is None:
        return 0.0
    start, end = (datetime.datetime.fromisoformat(each) for each in (record.started, record.finished))
    return (end - start).total_seconds()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
