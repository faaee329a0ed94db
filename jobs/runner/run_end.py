"""The end of a job's MLflow run: its status, what is sent late, and an id that comes to be known late."""

import contextlib
import dataclasses
import datetime
import signal
import threading
from collections.abc import Iterator

from infra.tracking.journal import Journal
from infra.tracking.run import ActiveRun, send_unsent
from jobs.runner.console import say
from jobs.runner.output.checks import OutputFolder
from pipeline.config import Config
from pipeline.errors import ConfigError, TrackingError, first_line
from pipeline.lineage import JobRecord


@contextlib.contextmanager
def ended(run: ActiveRun, required: bool) -> Iterator[None]:
    """End the run with its status. The result of a job does not depend on MLflow, unless `tracking.required` is set.

    Raises `TrackingError` where MLflow is required and lacks something.
    """
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
def interruptible() -> Iterator[None]:
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


def with_run_id(record: JobRecord, run_id: str, folder: OutputFolder) -> JobRecord:
    """The record with the run's id, which may come to be known late."""
    if run_id in ("", record.run_id):
        return record
    output = dataclasses.replace(record.output, run_id=run_id)
    record = dataclasses.replace(record, run_id=run_id, output=output)
    folder.write(record)
    return record


def with_all_sent(record: JobRecord, config: Config, output: str, folder: OutputFolder) -> JobRecord:
    """Send to MLflow what the finished job could not -> its record, with the run's id."""
    if not Journal.exists(output):
        return record
    try:
        with folder.held():
            finished = datetime.datetime.fromisoformat(str(record.finished)).timestamp()
            run_id, all_sent = send_unsent(config.tracking, output, finished)
            record = with_run_id(record, run_id, folder)
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
