"""Provenance of a run: versions of the code, and the Ray job."""

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path


def code_versions() -> dict[str, str]:
    """Versions of sllm (package, git commit if there is one) and of the libraries that decide results."""
    versions = {}
    for package in (
        "sllm",
        "torch",
        "ray",
        "deepspeed",
        "transformers",
        "tokenizers",
        "pyarrow",
        "spacy",
        "mlflow",
    ):
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
    folder = folder or Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+changes" if changes.strip() else "")


def ray_job_tags() -> dict[str, str]:
    """Id of the Ray job whose driver is this process; None if it was not submitted."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}").get("metadata") or {}
    found = {
        "ray.submission_id": os.environ.get("RAY_JOB_SUBMISSION_ID") or submitted.get("job_submission_id"),
        "ray.job_id": os.environ.get("RAY_JOB_ID"),
    }
    return {key: value for key, value in found.items() if value}
