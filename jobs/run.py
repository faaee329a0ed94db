"""`sllm run`: jobs one after the other; each reads the outputs of the previous ones."""

import contextlib
import shlex

from rich.table import Table
from rich.text import Text

from infra.provenance import command_line
from infra.storage import Folder
from infra.tracking.store import experiment_page, resolve_uri
from jobs.lineage.page import cards_of
from jobs.lineage.walk import walk_back
from jobs.pages.run import REPORT_NAME, Step, check_report, run_report
from jobs.reports import corpus_summary
from jobs.reports.evaluation import lossy_documents, notes_of, read_report
from jobs.runner.console import say
from jobs.runner.output.folder import check_new, output_folder, record_at
from jobs.runner.printable_console import PrintableConsole
from jobs.runner.several_jobs import several_jobs
from jobs.verbs import STEPS, VERBS, steps_of
from pipeline.config import Config
from pipeline.config.paths import joined
from pipeline.errors import SllmError, first_line
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted


def run(config: Config, force: bool = False) -> JobRecord:
    """Run the jobs of `config.run.jobs` in order; finished jobs are reused -> the last job's record.

    Prints a summary at the end.
    """
    output_folder(config.output, "run needs output=FOLDER; each job writes to a folder below it")
    steps = steps_of(config.run.jobs)
    before: dict[str, JobRecord | None] = {}
    for name, step in steps.items():
        folder = joined(str(wire(config, name).output), step.record_folder)
        check_new(folder, step.kind, (*config.data.inputs, *config.data.dev_inputs), force)
        before[name] = record_at(folder)
    check_report(str(config.output))
    records: dict[str, JobRecord] = {}
    with several_jobs("run", config, list(steps)) as command:
        for number, name in enumerate(steps, 1):
            say(f"run: job {number} of {len(steps)}, {name}")
            records[name] = VERBS[name].load().run(wire(config, name), force=force)
            if name == "prepare":
                corpus_summary.check_splits(records[name].output.path, [one for one in steps if one != name])
        if command.run is not None and "evaluate" in records:
            command.run.log_metrics(records["evaluate"].metrics)
        steps_done = [Step(name, one, _is_same(one, before[name])) for name, one in records.items()]
        report = _write_report(config, steps_done)
        if command.run is not None and report is not None:
            command.run.log_text(REPORT_NAME, report)
    summarize(config, records)
    if report is not None:
        PrintableConsole().print(Text.assemble(("Report: ", "bold"), _report_path(config)), soft_wrap=True)
    return list(records.values())[-1]


def _is_same(record: JobRecord, before: JobRecord | None) -> bool:
    return before is not None and (before.identity, before.finished) == (record.identity, record.finished)


def _report_path(config: Config) -> str:
    return redacted(joined(str(config.output), REPORT_NAME))


def _write_report(config: Config, steps: list[Step]) -> str | None:
    """Write `report.html` -> its content; None, and a warning, if it cannot be: the results are whole without it."""
    try:
        lineage = cards_of(*(walk_back(step.record.output) for step in _last_steps(steps)))
        report = run_report(config, steps, lineage, command_line())
        Folder(str(config.output)).write(REPORT_NAME, report)
    except (SllmError, OSError) as error:
        say(f"warning: {_report_path(config)} cannot be written: {first_line(error)}")
        return None
    return report.decode()


def _last_steps(steps: list[Step]) -> list[Step]:
    """The steps whose output no other one has read."""
    read = {given.digest for step in steps for given in step.record.inputs}
    return [step for step in steps if step.record.output.digest not in read]


def wire(config: Config, job: str) -> Config:
    """The configuration of one job of the run: its output folder, and the folders that it reads."""
    root = str(config.output)
    steps = steps_of(config.run.jobs)
    made: dict[str, dict[str, str]] = {"shards": {}, "model": {}, "report": {}}
    for step in steps.values():
        made[step.kind][step.folder] = joined(root, step.folder)
    own = STEPS[job].folder
    models = dict(made["model"])
    if STEPS[job].kind == "model":
        models.pop(own, None)  # training starts from the named model, not from its own output
    return config.model_copy(
        update={
            "output": joined(root, own),
            "shards": next(iter(made["shards"].values()), config.shards),
            "models": config.models.model_copy(update=models),
        }
    )


def summarize(config: Config, records: dict[str, JobRecord]) -> None:
    """The figures of all jobs of the run."""
    console = PrintableConsole()
    table = Table(title=f"sllm run: {redacted(str(config.output))}", title_justify="left", show_header=False)
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
        shown = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    console.print(Text.assemble(("MLflow: ", "bold"), shown), soft_wrap=True)
    with contextlib.suppress(Exception):  # a store that is away now
        console.print(Text(f"        {experiment_page(config.tracking)}"), soft_wrap=True)
    if "train-sllm" in records:
        command = f"sllm lineage {shlex.quote(records['train-sllm'].output.path)}"
        console.print(Text.assemble(("Lineage: ", "bold"), command), soft_wrap=True)


def _figures(config: Config, records: dict[str, JobRecord]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if prepare := records.get("prepare"):
        rows += corpus_summary.figures(prepare.output.path)
    for job, record in records.items():
        if STEPS[job].kind == "model":
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
    """The lines below the table: rejected documents, a corpus that is too small, and notes on the figures."""
    notes = []
    if prepare := records.get("prepare"):
        notes += corpus_summary.rejection_lines(prepare.output.path)
        notes += corpus_summary.notes_on_size(prepare.output.path, records)
    if evaluation := records.get("evaluate"):
        notes += notes_of(read_report(evaluation.output.path))
    return notes
