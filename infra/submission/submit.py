"""Submission of a job verb to a Ray cluster: it runs the same command, shows its log and returns its exit code.

`ray` itself is imported where it is needed.
"""

import asyncio
import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra.own_packages import is_checkout, shadowing
from infra.provenance import git_commit
from infra.submission.client import SubmissionError, client_of, explained
from infra.submission.package import write_package
from infra.submission.sent_config import NAME, sent_config
from infra.submission.submissions import base_id, metadata_of, running_or_new_id
from infra.submission.submitted_files import largest_in
from infra.tracking.store import DEFAULT_URI, sqlite_path
from pipeline.config import Config
from pipeline.config.paths import resolved_path
from pipeline.errors import ConfigError, first_line
from pipeline.printable import printable
from pipeline.redaction import is_secret, redacted
from pipeline.remote import text_at

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

INTERRUPTED = 130
_TRIES, _RETRY_SECONDS = 10, 3.0
_AGENT_SECONDS = 60.0


def submit(
    address: str,
    verb: str,
    config_path: str | None,
    overrides: Sequence[str],
    config: Config,
    say: Callable[[str], object],
    flags: Sequence[str] = (),
    folder: Path | None = None,
    detach: bool = False,
) -> int:
    """Run the verb with `config` as a Ray job, follow its log on stdout; its exit code.

    `config` is that of the file `config_path` with `overrides`; the job gets it as it is resolved here. The same job,
    if it was submitted before and has not ended, is followed and not started again. With `detach` only the submission
    id is printed on stdout, and the exit code is 0.

    The working folder (`folder`, by default the current one) is sent, less `submitted_files.excludes_of`. If it is a
    checkout the job runs its code, else the code that the cluster has. `say` takes lines for a person. Ctrl-C stops a
    job that was started here; a second one leaves it to the cluster.

    Raises `ConfigError` for a path that no other machine has, for a secret, and for `--force` where the job is running;
    `SubmissionError` for trouble with the cluster.
    """
    folder = (folder or Path.cwd()).absolute()
    _refuse_local_paths(config, folder)
    _refuse_secrets(config_path, overrides)
    sent = sent_config(config, config_path, overrides)
    entrypoint = shlex.join(["python", "-m", "jobs", verb, NAME, *flags])
    code_version = git_commit(folder) if is_checkout(folder) else None
    with explained(address, "submit to"):
        client = client_of(address)
        names = base_id(verb, config), metadata_of(verb, config, code_version)
        job, is_new = _started(client, names, entrypoint, folder, sent, say, "--force" in flags)
    if is_new:
        say(f"submitted {job} to {address}: {entrypoint}")
        if not is_checkout(folder):
            left_out = ", ".join(shadowing(folder))
            without = f" (without {left_out}, which would hide our packages)" if left_out else ""
            say(
                f"{folder}{without} is sent; it is no checkout of sllm, so the job runs the code that the cluster has"
            )
    if detach:
        print(job, flush=True)
        for command in ("status {}", "logs {} -f", "stop {}"):
            say(f"sllm {command.format(job)} --address {address}")
        return 0
    say(f"its log follows; Ctrl-C {'stops it' if is_new else 'leaves it running'}")
    try:
        return follow(client, job, say)
    except KeyboardInterrupt:
        stop = f"`sllm stop {job} --address {address}`"
        if not is_new:
            say(f"{job} goes on; {stop} stops it")
            return INTERRUPTED
        say(f"stopping {job}; Ctrl-C again leaves it to the cluster ({stop})")
        client.stop_job(job)
        follow(client, job, say)
        return INTERRUPTED


def _started(
    client: "JobSubmissionClient",
    names: tuple[str, dict[str, str]],
    entrypoint: str,
    folder: Path,
    sent: str,
    say: Callable[[str], object],
    force: bool,
) -> tuple[str, bool]:
    """The submission id of this job, and whether it was started now: one that has not ended is used again."""
    base, metadata = names
    code, waited = metadata.get("sllm.code_version"), 0.0
    while True:
        running, new = running_or_new_id(client, base)
        if running is not None:
            if force:
                raise ConfigError(
                    f"{running.id} is this job and has not ended: leave --force out to follow it, or first "
                    f"`sllm stop {running.id}`"
                )
            say(f"{running.id} is this job and has not ended: it is not started again")
            if code and running.code_version != code:
                say(f"note: {running.id} runs code version {running.code_version}; here is {code}")
            return running.id, False
        try:
            with _size_explained(folder), tempfile.TemporaryDirectory() as scratch:
                package = Path(scratch, "package.zip")
                write_package(folder, sent, package)
                runtime_env = {"working_dir": str(package), "env_vars": _environment(code)}
                client.submit_job(
                    entrypoint=entrypoint, runtime_env=runtime_env, submission_id=new, metadata=metadata
                )
            return new, True
        except RuntimeError as error:
            if (
                "No available agent" in str(error) and waited < _AGENT_SECONDS
            ):  # the cluster has just been started
                if not waited:
                    say(f"the cluster takes no jobs yet; trying again for {_AGENT_SECONDS:.0f} s")
                waited += _RETRY_SECONDS
                time.sleep(_RETRY_SECONDS)
            elif "already exists" not in str(error):  # submitted by another in the meantime
                raise


def _refuse_secrets(config_path: str | None, arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for a secret in the arguments or in the configuration file, which may be sent with its
    folder."""
    remedy = "write ${VARIABLE} instead, and set that variable here and on the cluster"
    for argument in arguments:
        if is_secret(argument):
            raise ConfigError(f"{redacted(argument)}: a secret is not sent with a submitted job: {remedy}")
    if config_path is not None and is_secret(text_at(resolved_path(config_path))):
        raise ConfigError(f"{config_path} holds a secret, which is not sent with a submitted job: {remedy}")


def _environment(code_version: str | None) -> dict[str, str]:
    """Variables of the job. Ray keeps them in its records and shows them, so none holds a secret."""
    environment = {"RAY_JOB_STOP_SIGNAL": "SIGINT"}  # so that a stopped job can end its MLflow run
    if code_version:
        environment["SLLM_GIT_COMMIT"] = code_version
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        value = os.environ.get(name, "")
        if value and not is_secret(value):
            environment[name] = value
    return environment


def follow(client: "JobSubmissionClient", job: str, say: Callable[[str], object]) -> int:
    """Print the job's log as it grows until the job has ended; its exit code. Survives lost connections.

    Raises `SubmissionError` where the connection is lost for long.
    """
    log = _Log()
    failures = 0
    while True:
        try:
            asyncio.run(log.tail(client, job))
            info = client.get_job_info(job)
            if info.status.is_terminal():
                break
            failures = 0
        except BrokenPipeError:  # nobody reads on
            raise
        except (OSError, RuntimeError) as error:
            failures += 1
            if failures == _TRIES:
                raise SubmissionError(
                    f"lost the cluster while following {job} ({first_line(error)}); the job may go on: "
                    f"see `sllm logs {job}`"
                ) from error
        time.sleep(_RETRY_SECONDS if failures else 0.2)
    if info.status == "SUCCEEDED":
        say(f"{job} succeeded")
        return 0
    reason = (info.message or "").split(", last available logs")[0].strip()  # the log has been shown
    say(f"{job} {str(info.status).lower()}: {reason}")
    return info.driver_exit_code or (INTERRUPTED if info.status == "STOPPED" else 1)


class _Log:
    """Prints each line of a job's log once, though each connection sends the log from its start."""

    def __init__(self) -> None:
        self._printed = 0

    async def tail(self, client: "JobSubmissionClient", job: str) -> None:
        seen = 0
        async for text in client.tail_job_logs(job):
            sys.stdout.write(printable(text[max(0, self._printed - seen) :]))
            sys.stdout.flush()
            seen += len(text)
            self._printed = max(self._printed, seen)


def _refuse_local_paths(config: Config, folder: Path) -> None:
    """Raise `ConfigError` for a path that is different in the job's temporary working folder."""
    database = sqlite_path(config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    named: list[tuple[str, str | None]] = [
        ("output", config.output),
        *(("shards", folder) for folder in config.shard_folders),
        ("models.lm", config.models.lm),
        ("models.vae", config.models.vae),
        ("models.sllm", config.models.sllm),
        ("tracking.uri", None if database is None else str(database)),
        *(("data.inputs", path) for path in config.data.inputs),
        *(("data.dev_inputs", path) for path in config.data.dev_inputs),
    ]
    # These may be hub names, unless there is such a folder here.
    named += [
        (key, path)
        for key, path in (("tokenizer.path", config.tokenizer.path), ("trunk.path", config.trunk.path))
        if path is not None and (folder / path).exists()
    ]
    relative = [
        (key, path) for key, path in named if path and not Path(path).is_absolute() and ":" not in path
    ]
    if relative:
        shown = ", ".join(f"{key}={path}" for key, path in relative)
        raise ConfigError(
            f"{shown}: a relative path would point into the job's temporary folder on the cluster; "
            "give an absolute path or a URL that every node reaches"
        )


@contextlib.contextmanager
def _size_explained(folder: Path) -> Iterator[None]:
    """Say of a folder that is too large to be sent what is large in it."""
    try:
        yield
    except Exception as error:
        if "exceeds the maximum size" not in str(error):
            raise
        raise SubmissionError(
            f"{folder} is too large to be sent to the cluster ({first_line(error).split('. ')[0]}); the largest in "
            f"it: {largest_in(folder)}; move data elsewhere or list it in .gitignore"
        ) from error
