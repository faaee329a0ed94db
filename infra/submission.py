"""Submit a job verb to a Ray cluster: the same command there, its log here, its exit code at the end.

`ray` itself is imported where it is needed.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra.mlflow_store import DEFAULT_URI, sqlite_path
from infra.provenance import git_commit
from infra.submitted_files import config_in_folder, excludes_of, largest_in
from pipeline.config import Config
from pipeline.errors import ConfigError, SllmError, first_line
from pipeline.printable import printable
from pipeline.redaction import is_secret, redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

INTERRUPTED = 130
_TRIES, _RETRY_SECONDS = 10, 3.0


class SubmissionError(SllmError):
    """A cluster that cannot be reached, refuses the token, or does not take the job."""


def submit(
    address: str,
    verb: str,
    config_path: str | None,
    arguments: Sequence[str],
    config: Config,
    say: Callable[[str], object],
    folder: Path | None = None,
) -> int:
    """Run `python -m jobs VERB CONFIG ARGUMENTS` as a Ray job, follow its log on stdout; its exit code.

    The working folder (`folder`, by default the current one) is sent, less `submitted_files.EXCLUDES`. `say` takes
    lines for a person. Ctrl-C stops the job; a second one leaves it to the cluster.

    Raises `ConfigError` for a path that no other machine has, `SubmissionError` for trouble with the cluster.
    """
    folder = (folder or Path.cwd()).absolute()
    config_argument = [config_in_folder(config_path, folder)] if config_path else []
    _refuse_local_paths(config, folder)
    _refuse_secrets(config_path, arguments)
    entrypoint = shlex.join(["python", "-m", "jobs", verb, *config_argument, *arguments])
    with _explained(address, folder):
        client = _client(address)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=_runtime_env(folder))
    say(f"submitted {job} to {address}: {entrypoint}")
    say("its log follows; Ctrl-C stops it")
    try:
        return _follow(client, job, say)
    except KeyboardInterrupt:
        say(
            f"stopping {job}; Ctrl-C again leaves it to the cluster (`ray job stop {job} --address {address}`)"
        )
        client.stop_job(job)
        _follow(client, job, say)
        return INTERRUPTED


def _refuse_secrets(config_path: str | None, arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for a secret that would be in the entrypoint, which the dashboard shows, or be sent in the
    configuration file."""
    remedy = "write ${VARIABLE} instead, and set that variable here and on the cluster"
    for argument in arguments:
        if is_secret(argument):
            raise ConfigError(f"{redacted(argument)}: a secret is not sent with a submitted job: {remedy}")
    if config_path is not None and is_secret(Path(config_path).read_text(encoding="utf-8")):
        raise ConfigError(f"{config_path} holds a secret, which is not sent with a submitted job: {remedy}")


def _client(address: str) -> "JobSubmissionClient":
    """A client that shows the token of `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)  # every ignored file is named, several times
    return JobSubmissionClient(address)


def _runtime_env(folder: Path) -> dict[str, object]:
    environment = {"RAY_JOB_STOP_SIGNAL": "SIGINT"}  # so that a stopped job can end its MLflow run
    if commit := git_commit():
        environment["SLLM_GIT_COMMIT"] = commit
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        value = os.environ.get(name, "")
        if value and not is_secret(value):  # the dashboard shows it
            environment[name] = value
    return {"working_dir": str(folder), "excludes": excludes_of(folder), "env_vars": environment}


def _follow(client: "JobSubmissionClient", job: str, say: Callable[[str], object]) -> int:
    """Print the job's log as it grows until the job has ended; its exit code. Survives lost connections."""
    log = _Log()
    failures = 0
    while True:
        try:
            asyncio.run(log.tail(client, job))
            info = client.get_job_info(job)
            if info.status.is_terminal():
                break
            failures = 0
        except (OSError, RuntimeError) as error:
            failures += 1
            if failures == _TRIES:
                raise SubmissionError(
                    f"lost the cluster while following {job} ({first_line(error)}); the job may go on: "
                    f"see `ray job logs {job}`"
                ) from error
        time.sleep(_RETRY_SECONDS if failures else 0.2)
    if info.status == "SUCCEEDED":
        say(f"{job} succeeded")
        return 0
    reason = (info.message or "").split(", last available logs")[0].strip()  # the log has been shown
    say(f"{job} {str(info.status).lower()}: {reason}")
    return info.driver_exit_code or (INTERRUPTED if info.status == "STOPPED" else 1)


class _Log:
    """Prints a job's log once, though each connection sends it from its start."""

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
    """Raise `ConfigError` for a path that means something else in the job's temporary working folder."""
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
    # These may be names on a hub, unless there is such a folder here.
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
def _explained(address: str, folder: Path) -> Iterator[None]:
    """Say in one line what keeps a job from being submitted, and what to do."""
    try:
        yield
    except Exception as error:
        line = first_line(error)
        if type(error).__name__ == "AuthenticationError":
            remedy = (
                "put the cluster's token into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            )
            raise SubmissionError(f"{address} refuses the token ({line}): {remedy}") from error
        if "exceeds the maximum size" in str(error):
            raise SubmissionError(
                f"{folder} is too large to be sent to the cluster ({line.split('. ')[0]}); the largest in it: "
                f"{largest_in(folder)}; move data elsewhere or list it in .gitignore"
            ) from error
        raise SubmissionError(
            f"cannot submit to {address}: {line}; is it the dashboard's address?"
        ) from error
