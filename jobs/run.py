"""`sllm run`: the whole path, each job reading what those before it wrote."""

import importlib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.mlflow_run import resolve_uri
from jobs.reports import corpus_summary
from jobs.reports.evaluation import lossy_documents, notes_of, read_report
from jobs.runner.output_folder import check_new, output_folder
from pipeline.config import Config
from pipeline.lineage import JobRecord
from pipeline.output_files import REPORT_FOLDER
from pipeline.redaction import redacted

FOLDERS = {
    "prepare": "shards",
    "train-lm": "lm",
    "train-vae": "vae",
    "train-sllm": "sllm",
    "evaluate": "evaluation",
    "generate": "text",
    "compare": "comparison",
}
"""Folder of each job below `output`."""
KINDS = {"prepare": "shards", "train-lm": "model", "train-vae": "model", "train-sllm": "model"}
"""What each job writes, where it is no report."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Run `config.run.jobs` in order; what is finished is reused. Ends with a summary -> the last job's record."""
    output_folder(config.output, "run needs output=FOLDER; each job writes to a folder below it")
    for verb in config.run.jobs:
        kind = KINDS.get(verb, "report")
        folder = Path(str(wire(config, verb).output), REPORT_FOLDER if verb == "compare" else "")
        check_new(str(folder), kind, (*config.data.inputs, *config.data.dev_inputs), force)
    records: dict[str, JobRecord] = {}
    for verb in config.run.jobs:
        module = importlib.import_module(f"jobs.{verb.replace('-', '_')}")
        records[verb] = module.run(wire(config, verb), force=force)
    summarize(config, records)
    return records[config.run.jobs[-1]]


def wire(config: Config, verb: str) -> Config:
    """The configuration of one job of the run: its output folder, and the folders that it reads."""
    root = Path(str(config.output))
    planned = set(config.run.jobs)

    def made_by(job: str, given: str | None) -> str | None:
        return str(root / FOLDERS[job]) if job in planned else given

    models = {
        "lm": made_by("train-lm", config.models.lm),
        "vae": made_by("train-vae", config.models.vae),
        "sllm": made_by("train-sllm", config.models.sllm),
    }
    own = verb.removeprefix("train-")
    if own in models:
        models[own] = getattr(config.models, own)  # what training goes on from, not what it makes
    return config.model_copy(
        update={
            "output": str(root / FOLDERS[verb]),
            "shards": str(root / FOLDERS["prepare"]) if "prepare" in planned else config.shards,
            "models": config.models.model_copy(update=models),
        }
    )


def summarize(config: Config, records: dict[str, JobRecord]) -> None:
    """The figures of the whole path on one screen."""
    console = Console()
    table = Table(title=f"sllm run: {config.output}", title_justify="left", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in _figures(config, records):
        table.add_row(name, value)
    console.print(table)
    for line in _notes(records):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    uri = resolve_uri(config.tracking.uri)
    if redacted(uri) != uri:
        shown = f"{redacted(uri)} (for `sllm lineage`, set MLFLOW_TRACKING_URI to the whole address)"
    elif uri.startswith(("http://", "https://")):
        shown = uri
    else:
        shown = f"mlflow ui --backend-store-uri {uri}"
    console.print(f"[bold]MLflow:[/bold] {shown}", highlight=False)
    if "train-sllm" in records:
        console.print(
            f"[bold]Lineage:[/bold] sllm lineage {records['train-sllm'].output.path}", highlight=False
        )


def _figures(config: Config, records: dict[str, JobRecord]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if prepare := records.get("prepare"):
        rows += corpus_summary.figures(prepare.output.path)
    for job in ("train-lm", "train-vae", "train-sllm"):
        if record := records.get(job):
            rows.append((f"{job}: tokens seen", f"{record.metrics['train/tokens']:,.0f}"))
            rows.append((f"{job}: tokens/s", f"{record.metrics['train/tokens_per_second']:,.0f}"))
    if evaluation := records.get("evaluate"):
        report = read_report(evaluation.output.path)
        if vae := report.get("vae"):
            rows.append(("reconstruction: tokens", f"{vae['token_accuracy']:.2%}"))
            rows.append(("reconstruction: whole sentences", f"{vae['exact_sentences']:.2%}"))
        mark = " (*)" if lossy_documents(report) else ""
        rows += [
            (f"bits per byte{mark}: {model}", f"{figures['bits_per_byte']:.4f}")
            for model, figures in report.items()
            if "bits_per_byte" in figures
        ]
    if generate := records.get("generate"):
        rows.append(("generated tokens/s", f"{generate.metrics['tokens_per_second']:,.0f}"))
    return rows


def _notes(records: dict[str, JobRecord]) -> list[str]:
    """What stands below the table: what was rejected, and what must be known of the figures."""
    notes = corpus_summary.lines(records["prepare"].output.path) if "prepare" in records else []
    if evaluation := records.get("evaluate"):
        notes += notes_of(read_report(evaluation.output.path))
    return notes
