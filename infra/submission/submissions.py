"""What a cluster knows of submitted jobs, and the names that ours get."""

import dataclasses
import datetime
import difflib
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from infra.provenance import command_line, user_name
from infra.submission.client import SubmissionError
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.lineage import identity_digest
from pipeline.redaction import redacted, redacted_tree

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_DIGITS = 12
_STOP_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Submission:
    """A submitted job. What is not known is None; no field holds a secret."""

    id: str
    status: str
    """`PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`."""
    verb: str | None
    output: str | None
    identity: str | None
    """SHA-256 of verb and configuration, hex."""
    submitted: str | None
    """ISO 8601, UTC; so is `ended`."""
    ended: str | None
    user: str | None
    host: str | None
    """The machine that it was submitted from."""
    code_version: str | None
    entrypoint: str
    message: str | None
    """Ray's description of the status."""

    @property
    def has_ended(self) -> bool:
        """Whether it has succeeded, failed or been stopped."""
        return self.status in _ENDED


def identity_of(verb: str, config: Config) -> str:
    """SHA-256 (hex) of a verb and its configuration without secrets: the same for the same job."""
    return identity_digest([verb, redacted_tree(config.model_dump(mode="json"))])


def base_id(verb: str, config: Config) -> str:
    """The submission id of a job: its verb, and the first 12 digits of its identity."""
    return f"{verb}-{identity_of(verb, config)[:_DIGITS]}"


def metadata_of(verb: str, config: Config, code_version: str | None) -> dict[str, str]:
    """What the dashboard shows of a submission: `sllm.` and verb, output, identity, code version, host, user and
    command."""
    known = {
        "verb": verb,
        "output": config.output,
        "identity": identity_of(verb, config),
        "code_version": code_version,
        "host": socket.gethostname(),
        "user": user_name(),
        "command": command_line(),
    }
    return {f"sllm.{name}": redacted(value) for name, value in known.items() if value}


def all_submissions(client: "JobSubmissionClient") -> list[Submission]:
    """All submitted jobs that the cluster still knows, the newest first."""
    jobs = [job for job in client.list_jobs() if job.submission_id]
    jobs.sort(key=lambda job: job.start_time or 0, reverse=True)
    return [_submission(job) for job in jobs]


def find(client: "JobSubmissionClient", submission_id: str) -> Submission:
    """The submission with this id. Raises `ConfigError`, with the nearest id, where there is none."""
    known = {submission.id: submission for submission in all_submissions(client)}
    if submission_id in known:
        return known[submission_id]
    near = difflib.get_close_matches(submission_id, known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else "there are none" if not known else "none is near"
    raise ConfigError(f"no submission {submission_id!r} on this cluster: {hint} (`sllm list` shows all)")


def running_or_new_id(client: "JobSubmissionClient", base: str) -> tuple[Submission | None, str]:
    """The submission of this job that has not ended, if any, and an id that no submission has: `base`, or with `-2`,
    `-3` and so on."""
    known = {submission.id: submission for submission in all_submissions(client)}
    number, new = 1, base
    while new in known:
        if not known[new].has_ended:
            return known[new], new
        number += 1
        new = f"{base}-{number}"
    return None, new


def stop(client: "JobSubmissionClient", submission_id: str) -> Submission:
    """Stop a submission and wait until it has ended; one that has ended stays as it is.

    Raises `ConfigError` for an unknown id, `SubmissionError` where it has not ended after 120 s.
    """
    submission = find(client, submission_id)
    if submission.has_ended:
        return submission
    client.stop_job(submission_id)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (submission := _submission(client.get_job_info(submission_id))).has_ended:
        if time.monotonic() > deadline:
            raise SubmissionError(f"{submission_id} has not ended {_STOP_SECONDS:.0f} s after it was stopped")
        time.sleep(0.5)
    return submission


def _submission(job: "JobDetails") -> Submission:
    metadata: Mapping[str, str] = job.metadata or {}
    known = {
        name: metadata.get(f"sllm.{name}")
        for name in ("verb", "output", "identity", "code_version", "host", "user")
    }
    return Submission(
        id=str(job.submission_id),
        status=str(job.status.value),
        submitted=_utc(job.start_time),
        ended=_utc(job.end_time),
        entrypoint=redacted(job.entrypoint),
        message=redacted(job.message) if job.message else None,
        **{name: redacted(value) if value else None for name, value in known.items()},
    )


def _utc(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.datetime.fromtimestamp(milliseconds // 1000, datetime.UTC).isoformat()
