"""`sllm list`, `status`, `logs` and `stop`: submitted jobs of a cluster, over Ray's Jobs API."""

import dataclasses
import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from infra.submission import submissions
from infra.submission.client import address_or_default, client_of, explained
from infra.submission.submissions import Submission
from infra.submission.submit import follow
from jobs.runner.console import INTERRUPTED, say
from jobs.runner.printable_console import PrintableConsole
from pipeline.printable import printable
from pipeline.redaction import redacted, redacted_tree

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

UNWRAPPED = 1000
"""Columns where the output goes into a file or another program."""
_MESSAGE_CHARACTERS = 300

Id = Annotated[str, typer.Argument(metavar="ID", help="Submission id, as `sllm list` shows it.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard; without it RAY_API_SERVER_ADDRESS, then RAY_ADDRESS.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show_list(address: Address = None, as_json: AsJson = False) -> None:
    """Arguments of `sllm list`."""
    with _cluster(address) as client:
        found = submissions.all_submissions(client)
    _print_all(found, as_json)


def show_status(
    submission_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Submission id; none: all that have not ended.")
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Arguments of `sllm status`."""
    if submission_id is not None:
        with _cluster(address) as client:
            one = submissions.find(client, submission_id)
        _print_one(one, as_json)
        return
    with _cluster(address) as client:
        found = submissions.all_submissions(client)
    _print_all([one for one in found if not one.has_ended], as_json)


def show_logs(
    submission_id: Id,
    wait: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Print the log as it grows, and exit with the job's exit code: 0 succeeded. Ctrl-C leaves the job "
            "running.",
        ),
    ] = False,
    address: Address = None,
) -> None:
    """Arguments of `sllm logs`."""
    with _cluster(address) as client:
        submissions.find(client, submission_id)
        log = "" if wait else client.get_job_logs(submission_id)
    if not wait:
        print(printable(log), end="")
        return
    try:
        code = follow(client, submission_id, say)
    except KeyboardInterrupt:
        say(f"{submission_id} goes on; `sllm stop {submission_id}` stops it")
        code = INTERRUPTED
    raise typer.Exit(code)


def stop(submission_id: Id, address: Address = None, as_json: AsJson = False) -> None:
    """Arguments of `sllm stop`."""
    with _cluster(address) as client:
        submission = submissions.stop(client, submission_id)
    if as_json:
        _print_one(submission, as_json)
    else:
        say(f"{submission.id} has ended: {submission.status}")


@contextmanager
def _cluster(address: str | None) -> Iterator["JobSubmissionClient"]:
    address = address_or_default(address, say)
    with explained(address, "ask"):
        yield client_of(address)


def _print_all(found: list[Submission], as_json: bool) -> None:
    if as_json:
        _print_json([_tree(one) for one in found])
        return
    console = _console()
    if not found:
        console.print("no submissions")
        return
    table = Table()
    for name in ("id", "verb", "output", "status", "submitted", "by"):
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for one in found:
        values = (one.id, one.verb, one.output, one.status, _local(one.submitted), _by(one))
        table.add_row(*(_cell(value or "") for value in values))
    console.print(table)


def _print_one(submission: Submission, as_json: bool) -> None:
    if as_json:
        _print_json(_tree(submission))
        return
    rows = {
        "id": submission.id,
        "verb": submission.verb,
        "output": submission.output,
        "status": submission.status,
        "submitted": _local(submission.submitted),
        "ended": _local(submission.ended),
        "by": _by(submission),
        "identity": submission.identity,
        "code version": submission.code_version,
        "command": submission.entrypoint,
        "message": (submission.message or "")[:_MESSAGE_CHARACTERS],
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        if value:
            table.add_row(name, _cell(value))
    _console().print(table)


def _console() -> PrintableConsole:
    console = PrintableConsole(highlight=False)
    if not console.is_terminal:
        console.width = UNWRAPPED
    return console


def _local(time: str | None) -> str | None:
    """A time of ISO 8601 as the clock here shows it."""
    if time is None:
        return None
    return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _by(submission: Submission) -> str:
    return "@".join(part for part in (submission.user, submission.host) if part)


def _cell(value: str) -> Text:
    """Whoever reaches the cluster writes the metadata: no markup, secrets or control characters of it are shown."""
    return Text(printable(redacted(value)), overflow="fold")


def _tree(submission: Submission) -> dict[str, Any]:
    return redacted_tree(dataclasses.asdict(submission))


def _print_json(value: object) -> None:
    print(printable(json.dumps(value, indent=2, ensure_ascii=False)))
