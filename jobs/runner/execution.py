"""The execution of one job: finished work is reused, other work in the folder is refused, the rest runs as one MLflow
run."""

import dataclasses
import datetime
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.provenance import code_versions
from infra.tracking.run import ActiveRun, start_run
from infra.tracking.store import check_store, resolve_uri
from jobs.runner.console import say
from jobs.runner.identity import digests_of, has_grown, part_of, refusal, with_current_options
from jobs.runner.output_folder import absolute, open_output
from jobs.runner.run_parameters import run_parameters, run_tags
from pipeline.config import Config
from pipeline.errors import ConfigError, first_line
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
    `check` raises errors that are known before work: then no run is started and nothing is written. `force` first
    removes the files of the earlier job. An interrupted job continues its own run. `beside` are keys that the job uses
    but that do not decide its result: they are parameters of the run too.

    Raises `ConfigError` where `output` holds the work of a job of another identity; with `replace_other`, for cheap
    results, only where it is another kind of job.
    """
    folder = open_output(output, output_kind)
    whole = config.model_dump(mode="json")
    tree = redacted_tree(whole)
    tree["tracking"]["uri"] = resolve_uri(tree["tracking"]["uri"])
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
        elif folder.is_whole(earlier):
            say(f"reuse {output}: {job} run {earlier.run_id}, finished {earlier.finished}")
            return earlier
    folder.check(earlier, [artifact.path for artifact in inputs], force)
    check()
    check_store(config.tracking)
    with folder.held():
        replaced = earlier if force else None
        unfinished = earlier if not force and earlier is not None and earlier.finished is None else None
        run = start_run(
            config.tracking,
            name=f"{job} {Path(output).name}",
            output=output,
            resume=unfinished.run_id if unfinished else None,
        )
        record = JobRecord(
            job=job,
            identity=this,
            config=tree,
            inputs=tuple(inputs),
            output=Artifact(output_kind, output, digest="", run_id=run.run_id),
            run_id=run.run_id,
            metrics={},
            versions=code_versions(),
            started=unfinished.started if unfinished else _now(),
            finished=None,
            files=grown.files if grown is not None else {},
        )
        went_on = "continues" if unfinished and unfinished.run_id == run.run_id else "starts as"
        say(f"{job} -> {output}: {went_on} MLflow run {run.run_id}")
        with _ended(run), _interruptible():
            if replaced is not None:
                folder.remove(replaced, inputs)
            folder.write(record)
            continued = {"sllm.continues": grown.run_id} if grown and grown.run_id != run.run_id else {}
            run.log_start(
                run_parameters(tree, [*sections, *beside], inputs), inputs, {**run_tags(record), **continued}
            )
            metrics = body(run)
            run.close()
            made = folder.describe(run.run_id, inputs)
            with _warned(run, output):
                run.log_output(dataclasses.replace(made, path=redacted(absolute(output))), metrics)
            record = dataclasses.replace(
                record,
                output=made,
                metrics={key: float(value) for key, value in metrics.items()},
                finished=_now(),
                files=folder.written(inputs),
            )
            folder.write(record)
    return record


@contextmanager
def _ended(run: ActiveRun) -> Iterator[None]:
    """End the run with its status; an error of the store never hides the job's own error."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
        try:
            run.close()
            run.end(status, error)
        except Exception as trouble:
            error.add_note(
                f"and its MLflow run {run.run_id} could not be ended as {status}: {redacted(str(trouble))}"
            )
        raise
    with _warned(run, run.output):
        run.end("FINISHED")


@contextmanager
def _warned(run: ActiveRun, output: str) -> Iterator[None]:
    """A context in which errors of the store are warnings, after the job is done: the result is whole without the
    store."""
    try:
        yield
    except Exception as error:
        line = first_line(error)
        say(
            f"warning: MLflow run {run.run_id} could not be completed ({redacted(line)}); "
            f"{output} and its record are whole"
        )


@contextmanager
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
