"""The execution of one job: finished work is reused, other work in the folder is refused, the rest runs as one MLflow
run."""

import contextlib
import dataclasses
import datetime
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from infra.provenance import code_versions, command_line, ray_job, user_name
from infra.tracking.journal import Journal
from infra.tracking.openlineage import JobEvents, job_events, open_client
from infra.tracking.run import RUN_ID_VARIABLE, ActiveRun, send_unsent, start_run
from infra.tracking.store import check_store, resolve_experiment, resolve_uri
from infra.tracking.system_metrics import system_metrics
from jobs.runner.console import say
from jobs.runner.identity import digests_of, has_grown, part_of, refusal, value_at, with_current_options
from jobs.runner.output_checks import OutputFolder
from jobs.runner.output_folder import absolute, open_output
from jobs.runner.progress import duration
from jobs.runner.run_page.description import description
from jobs.runner.run_page.files import result_files, start_files
from jobs.runner.run_page.parameters import run_parameters
from jobs.runner.run_page.tags import corpus_tag, inherited_tags, run_tags, shards_tags
from pipeline.config import Config
from pipeline.config.recorded import with_references
from pipeline.errors import ConfigError, SllmError, TrackingError, first_line
from pipeline.lineage import Artifact, JobRecord, identity
from pipeline.redaction import redacted, redacted_tree


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
    whole = config.model_dump(mode="json")
    stored = whole | {"tracking": whole["tracking"] | {"uri": resolve_uri(whole["tracking"]["uri"])}}
    tree = redacted_tree(stored)
    part = part_of(tree, sections, without)
    this = identity(job, part_of(whole, sections, without), inputs)
    is_shown_whole = part == part_of(whole, sections, without)
    earlier = folder.read()
    grown: JobRecord | None = None
    inputs = [dataclasses.replace(artifact, path=redacted(absolute(artifact.path))) for artifact in inputs]
    if earlier is not None and not force:
        then = part_of(with_current_options(earlier.config), sections, without)
        same_work = earlier.job == job and digests_of(earlier.inputs) == digests_of(inputs)
        if same_work and then != part and grows is not None and has_grown(then, part, grows):
            grown = earlier
        elif earlier.identity != this and not (same_work and then == part and is_shown_whole):
            if replace_other and earlier.job == job:
                force = True
            elif earlier.finished is not None or folder.left_something(inputs):
                raise ConfigError(refusal(earlier, job, then, part, inputs, output))
            else:
                earlier = None
        elif folder.is_whole(earlier) and is_intact(earlier):
            say(f"reuse {output}: {job} run {earlier.run_id}, finished {earlier.finished}")
            return _with_all_sent(earlier, config, output, folder)
    folder.check(earlier, [artifact.path for artifact in inputs], force)
    check()
    trouble = check_store(config.tracking)
    openlineage = open_client(config.tracking)
    with folder.held():
        replaced = earlier if force else None
        unfinished = earlier if not force and earlier is not None and earlier.finished is None else None
        repaired = earlier if not force and earlier is not None and output_kind == "shards" else None
        run = start_run(
            config.tracking,
            name=f"{job} {Path(output).name}",
            output=output,
            resume=unfinished or repaired,
            identity=this,
            trouble=trouble,
        )
        if grown is not None and unfinished is None and grows is not None:
            run.after_step = int(value_at(grown.config, grows))
        record = JobRecord(
            job=job,
            identity=this,
            config=with_references(stored),
            inputs=tuple(inputs),
            output=Artifact(output_kind, output, digest="", run_id=run.run_id or None),
            run_id=run.run_id,
            metrics={},
            versions=code_versions(),
            started=unfinished.started if unfinished else _now(),
            finished=None,
            files=grown.files if grown is not None else {},
            user=user_name(),
            host=socket.gethostname(),
            command=command_line(),
            ray_job=ray_job(),
            tags=corpus_tag(config) if output_kind == "shards" else inherited_tags(inputs),
        )
        began = time.monotonic()
        say(f"{job} -> {output}: {_beginning(run.run_id, unfinished or repaired, config)}")
        text = description(record)
        events = JobEvents(openlineage, record, run, text)
        with _ended(run, config.tracking.required), _interruptible(), job_events(events):
            if replaced is not None:
                folder.remove(replaced, inputs)
            try:
                folder.write(record)
            except SllmError:  # the next start could not know of this run
                run.delete_at_end()
                raise
            continues = grown.run_id if grown is not None and unfinished is None else ""
            tags = run_tags(record) | ({"sllm.continues": continues} if continues else {})
            parameters = run_parameters(tree, sections, without, beside, record.tags)
            run.log_start(parameters, inputs, tags, text)
            for name, content in start_files(tree).items():
                run.log_text(name, content)
            with system_metrics(run, datetime.datetime.fromisoformat(record.started).timestamp()):
                metrics = body(run)
            if output_kind == "shards":
                record = dataclasses.replace(record, tags=record.tags | shards_tags(output))
                run.log_tags(record.tags)
            made = folder.describe(run.run_id, inputs)
            run.log_output(dataclasses.replace(made, path=redacted(absolute(output))), metrics)
            record = dataclasses.replace(
                record,
                output=made,
                metrics={key: float(value) for key, value in metrics.items()},
                finished=_now(),
                files=folder.written(inputs),
                ray_job=ray_job(),  # a job that was not submitted has one since it connected
            )
            folder.write(record)
            events.record = record
            for name, content in result_files(record, output).items():
                run.log_text(name, content)
            if run.upload_model(record):
                megabytes = sum(record.files.values()) / 1e6
                say(
                    f"{job} -> {output}: MLflow gets the files of the model too, {megabytes:,.1f} MB; with "
                    "tracking.upload_models=false it refers to the folder"
                )
        say(f"{job} -> {output}: finished in {duration(time.monotonic() - began)}{_last_figures(record)}")
        return _with_run_id(record, run.run_id, folder)


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


def _with_run_id(record: JobRecord, run_id: str, folder: OutputFolder) -> JobRecord:
    """The record with the run's id, which may come to be known late."""
    if run_id in ("", record.run_id):
        return record
    output = dataclasses.replace(record.output, run_id=run_id)
    record = dataclasses.replace(record, run_id=run_id, output=output)
    folder.write(record)
    return record


def _with_all_sent(record: JobRecord, config: Config, output: str, folder: OutputFolder) -> JobRecord:
    """Send to MLflow what the finished job could not -> its record, with the run's id."""
    if not Journal.exists(output):
        return record
    try:
        with folder.held():
            finished = datetime.datetime.fromisoformat(str(record.finished)).timestamp()
            run_id, all_sent = send_unsent(config.tracking, output, finished)
            record = _with_run_id(record, run_id, folder)
    except ConfigError as error:  # held by another job, or it cannot be written
        say(
            f"warning: MLflow has not got all of run {record.run_id}, and nothing is sent now: {first_line(error)}"
        )
        return record
    if all_sent:
        say(f"{output}: MLflow now has all of run {record.run_id}")
    else:
        say(
            f"warning: MLflow still has not got all of run {record.run_id or output}; the same command, started again, "
            "sends it"
        )
    return record


@contextlib.contextmanager
def _ended(run: ActiveRun, required: bool) -> Iterator[None]:
    """End the run with its status. The result of a job does not depend on MLflow, unless `tracking.required` is set."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        run.end("KILLED" if stopped and run.failure is None else "FAILED", error)
        _close(run)
        if run.failure is not None:
            raise TrackingError(run.failure) from error
        raise
    run.end("FINISHED")
    missing = _close(run)
    if required and (missing or run.failure):
        raise TrackingError(f"tracking.required is set: {missing or run.failure}; {run.output} is whole")


def _close(run: ActiveRun) -> str | None:
    """Send what waits; print and return a line if the store does not take all of it."""
    if run.close():
        return None
    missing = (
        f"MLflow has not got all of this job; {run.kept_in} keeps the rest, and the same command, started again, "
        "sends it"
    )
    say(f"warning: {missing}")
    return missing


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A context in which SIGTERM, which schedulers send first, ends the job as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
