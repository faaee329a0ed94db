"""Provenance of a run: versions of the code, who runs it where with which command, and the Ray job."""

import contextlib
import functools
import getpass
import json
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pipeline.redaction import redacted

PACKAGES = ("sllm", "torch", "ray", "deepspeed", "transformers", "tokenizers", "pyarrow", "spacy", "mlflow")
"""Packages whose versions decide results."""


def code_versions() -> dict[str, str]:
    """Versions of sllm (package, git commit if there is one) and of the libraries that decide results."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if commit := git_commit():
        versions["git"] = commit
    return versions


def git_commit(folder: Path | None = None) -> str | None:
    """The git commit of our code, or of the checkout `folder`, with `+changes` if files differ from it.

    A submitted job, which is sent without `.git`, and an image have it in `SLLM_GIT_COMMIT`.
    """
    if given := os.environ.get("SLLM_GIT_COMMIT"):
        return given
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+changes" if changes else "")


@functools.cache
def git_repository() -> dict[str, str]:
    """Tags of MLflow with branch and address of the checkout that our code is in, as far as there are any."""
    found = {
        "mlflow.source.git.branch": _git(None, "branch", "--show-current"),
        "mlflow.source.git.repoURL": _git(None, "remote", "get-url", "origin"),
    }
    return {key: redacted(value) for key, value in found.items() if value}


def _git(folder: Path | None, *arguments: str) -> str:
    """What git says in `folder`, by default that of our code; empty where it is no checkout."""
    folder = folder or Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def user_name() -> str:
    """Who runs this job, or submitted it; empty for a user without a name, as in containers."""
    if given := _submission().get("sllm.user"):
        return given
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


def command_line() -> str:
    """The command that runs or submitted this job, quoted for a shell, secrets masked."""
    if given := _submission().get("sllm.command"):
        return given
    program = Path(sys.argv[0] if sys.argv else "")
    is_ours = program.name == "sllm" or program.parts[-2:] == ("jobs", "__main__.py")
    words = ["sllm", *sys.argv[1:]] if is_ours else sys.orig_argv
    line = " ".join(shlex.quote(redacted(word)) for word in words)
    return line.encode(errors="backslashreplace").decode()  # an argument need not be UTF-8


def ray_job() -> str:
    """Submission id of the Ray job whose driver is this process, else its job id; empty where there is none."""
    tags = ray_job_tags()
    return tags.get("ray.submission_id") or tags.get("ray.job_id") or ""


def ray_job_tags() -> dict[str, str]:
    """Submission id and job id of the Ray job whose driver is this process, as far as there are any."""
    found = {
        "ray.submission_id": os.environ.get("RAY_JOB_SUBMISSION_ID")
        or _submission().get("job_submission_id"),
        "ray.job_id": os.environ.get("RAY_JOB_ID") or _connected_job(),
    }
    return {key: value for key, value in found.items() if value}


def _submission() -> dict[str, str]:
    """Ray's metadata of the submission that this process is the driver of."""
    return _metadata(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")


@functools.cache
def _metadata(job_config: str) -> dict[str, str]:
    return dict(json.loads(job_config).get("metadata") or {})


def _connected_job() -> str | None:
    """Id of the Ray job where this process is connected to a cluster; `ray` is not imported for it."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    job_id: str = ray.get_runtime_context().get_job_id()
    return job_id
