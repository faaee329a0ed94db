"""The execution of one job: finished work is reused, other work in the folder is refused, the rest runs as one MLflow
run."""

import dataclasses
import datetime
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.provenance import code_versions, command_line, ray_job, user_name
from infra.tracking.openlineage import JobEvents, job_events, open_client
from infra.tracking.run import RUN_ID_VARIABLE, ActiveRun, start_run
from infra.tracking.store import check_store, resolve_experiment, resolve_uri
from infra.tracking.system_metrics import system_metrics
from jobs.runner.console import say
from jobs.runner.earlier_work import EarlierWork, Work, earlier_work, stored_tree, work_of
from jobs.runner.identity import value_at
from jobs.runner.output.checks import OutputFolder
from jobs.runner.output.folder import absolute, open_output
from jobs.runner.progress import duration
from jobs.runner.run_end import ended, interruptible, with_all_sent, with_run_id
from jobs.runner.run_page.description import description
from jobs.runner.run_page.files import result_files, start_files
from jobs.runner.run_page.parameters import run_parameters
from jobs.runner.run_page.tags import corpus_tag, inherited_tags, run_tags, shards_tags
from pipeline.config import Config
from pipeline.config.recorded import with_references
from pipeline.errors import SllmError
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted


def run_job(
    job: str,
    config: Config,
    *,
    sections: Sequence[str],
    inputs: Sequence[Artifact],
    output: str,
    output_kind: str,
    body: Callable[[ActiveRun], dict[str, float]],
    check: Callable[[], None] = lambda: None,
    is_intact: Callable[[JobRecord], bool] = lambda record: True,
    without: Sequence[str] = (),
    grows: str | None = None,
    beside: Sequence[str] = (),
    force: bool = False,
    replace_other: bool = False,
) -> JobRecord:
    """Run `body` as one MLflow run that writes to the folder `output`, or reuse the finished run.

    `sections` are the dotted keys of the configuration that decide the result; together with the digests of the inputs
    they are the job's identity, without the keys in `without`. The number at the key `grows` may increase: the job then
    continues from its last step, as a new run if the earlier one had finished. `body` returns the final metrics.
    `check` raises errors that are known before work: then no run is started and nothing is written. `is_intact` reads
    a finished output before it is reused; where it is not, the job runs again. `force` first
    removes the files of the earlier job. An interrupted job continues its own run, and so does one that makes damaged
    shards anew: what was trained on them names this run. `beside` are keys that the job uses
    but that do not decide its result: they are parameters of the run too.

    Raises `ConfigError` where `output` holds the work of a job of another identity; with `replace_other`, for cheap
    results, only where it is another kind of job.
    """
    folder = open_output(output, output_kind)
    work = work_of(job, config, inputs, sections, without, grows)
    earlier = earlier_work(folder, output, work, is_intact, force, replace_other)
    if earlier.record is not None and earlier.is_finished:
        say(f"reuse {output}: {job} run {earlier.record.run_id}, finished {earlier.record.finished}")
        return with_all_sent(earlier.record, config, output, folder)
    folder.check(earlier.record, [artifact.path for artifact in work.inputs], earlier.is_replaced)
    check()
    trouble = check_store(config.tracking)
    openlineage = open_client(config.tracking)
    with folder.held():
        repaired = earlier.record if output_kind == "shards" and not earlier.is_replaced else None
        resumed = earlier.unfinished or repaired
        run = start_run(
            config.tracking,
            name=f"{job} {Path(output).name}",
            output=output,
            resume=resumed,
            identity=work.identity,
            trouble=trouble,
        )
        if earlier.grown is not None and earlier.unfinished is None and grows is not None:
            run.after_step = int(value_at(earlier.grown.config, grows))
        record = _begun(
            work, config, earlier, Artifact(output_kind, output, digest="", run_id=run.run_id or None)
        )
        began = time.monotonic()
        say(f"{job} -> {output}: {_beginning(run.run_id, resumed, config)}")
        text = description(record)
        events = JobEvents(openlineage, record, run, text)
        with ended(run, config.tracking.required), interruptible(), job_events(events):
            if earlier.replaced is not None:
                folder.remove(earlier.replaced, work.inputs)
            try:
                folder.write(record)
            except SllmError:  # the next start could not know of this run
                run.delete_at_end()
                raise
            _log_start(run, record, work, earlier, beside, text)
            with system_metrics(run, datetime.datetime.fromisoformat(record.started).timestamp()):
                metrics = body(run)
            record = events.record = _finished(run, record, work, folder, metrics)
            _log_result(run, record)
        say(f"{job} -> {output}: finished in {duration(time.monotonic() - began)}{_last_figures(record)}")
        return with_run_id(record, run.run_id, folder)


def _begun(work: Work, config: Config, earlier: EarlierWork, output: Artifact) -> JobRecord:
    """The record of a job that begins, or goes on."""
    return JobRecord(
        job=work.job,
        identity=work.identity,
        config=with_references(stored_tree(config)),
        inputs=work.inputs,
        output=output,
        run_id=output.run_id or "",
        metrics={},
        versions=code_versions(),
        started=earlier.unfinished.started if earlier.unfinished else _now(),
        finished=None,
        files=earlier.grown.files if earlier.grown is not None else {},
        user=user_name(),
        host=socket.gethostname(),
        command=command_line(),
        ray_job=ray_job(),
        tags=corpus_tag(config) if output.kind == "shards" else inherited_tags(work.inputs),
    )


def _log_start(
    run: ActiveRun, record: JobRecord, work: Work, earlier: EarlierWork, beside: Sequence[str], text: str
) -> None:
    """Parameters, inputs, tags, description and files that are known before the work."""
    tags = run_tags(record)
    if earlier.grown is not None and earlier.unfinished is None and earlier.grown.run_id:
        tags |= {"sllm.continues": earlier.grown.run_id}
    parameters = run_parameters(work.tree, work.sections, work.without, beside, record.tags)
    run.log_start(parameters, work.inputs, tags, text)
    for name, content in start_files(work.tree).items():
        run.log_text(name, content)


def _finished(
    run: ActiveRun, record: JobRecord, work: Work, folder: OutputFolder, metrics: dict[str, float]
) -> JobRecord:
    """The record of the finished job, which is written to its folder; run and record have its output and metrics."""
    output = record.output.path
    if record.output.kind == "shards":
        record = dataclasses.replace(record, tags=record.tags | shards_tags(output))
        run.log_tags(record.tags)
    made = folder.describe(run.run_id, work.inputs)
    run.log_output(dataclasses.replace(made, path=redacted(absolute(output))), metrics)
    record = dataclasses.replace(
        record,
        output=made,
        metrics={key: float(value) for key, value in metrics.items()},
        finished=_now(),
        files=folder.written(work.inputs),
        ray_job=ray_job(),  # a job that was not submitted has one since it connected
    )
    folder.write(record)
    return record


def _log_result(run: ActiveRun, record: JobRecord) -> None:
    """Files that show the result, and those of a model."""
    for name, content in result_files(record, run.output).items():
        run.log_text(name, content)
    if run.upload_model(record):
        megabytes = sum(record.files.values()) / 1e6
        say(
            f"{record.job} -> {run.output}: MLflow gets the files of the model too, {megabytes:,.1f} MB; with "
            "tracking.upload_models=false it refers to the folder"
        )


def _beginning(run_id: str, resumed: JobRecord | None, config: Config) -> str:
    """What is said of the run when a job starts."""
    experiment, uri = resolve_experiment(config.tracking.experiment), resolve_uri(config.tracking.uri)
    if not run_id:
        return f"starts; its MLflow run, of the experiment {experiment} at {uri}, has no id yet"
    if run_id == os.environ.get(RUN_ID_VARIABLE):
        return f"logs into MLflow run {run_id} ({RUN_ID_VARIABLE}) at {uri}"
    went_on = "continues" if resumed is not None and resumed.run_id == run_id else "starts as"
    below = (
        f", below the run {given} ({RUN_ID_VARIABLE})" if (given := os.environ.get(RUN_ID_VARIABLE)) else ""
    )
    return f"{went_on} MLflow run {run_id} of the experiment {experiment} at {uri}{below}"


def _last_figures(record: JobRecord) -> str:
    """What training ended with; empty for other jobs, which print a table or a text."""
    figures = record.metrics
    if "train/nll_per_token" not in figures:
        return ""
    parts = [f"{figures.get('train/tokens', 0):,.0f} tokens"]
    parts += [f"{name} {figures[key]:.3f}" for key, name in _LAST_FIGURES.items() if key in figures]
    return f"; {', '.join(parts)}"


_LAST_FIGURES = {"train/nll_per_token": "nll/token", "dev/nll_per_token": "dev nll/token"}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
