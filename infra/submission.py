"""Submit a job verb to a Ray cluster: the same command there, its log here, its exit code at the end.

`ray` itself is imported where it is needed.
"""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra.mlflow_run import DEFAULT_URI, sqlite_path
from infra.provenance import git_commit
from pipeline.config import Config
from pipeline.errors import ConfigError, SllmError
from pipeline.redaction import is_secret, redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_KEYS = [
    *(
        "*.pem",
        "*.key",
        "*.p8",
        "*.p12",
        "*.pfx",
        "*.jks",
        "*.keystore",
        "*.kdbx",
        "*.ppk",
        "*.ovpn",
        "*.env",
    ),
    *("*.asc", "*.gpg", "*.pgp", "*.tfvars", "*.tfstate", "*.kubeconfig", "kubeconfig", "*.keytab"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "_netrc", "netrc", "*htpasswd", "pgpass.conf"),
    *(
        "credentials",
        "auth_token",
        "secrets",
        "passwords",
        "rootkey.csv",
        "accesskeys.csv",
        "*_accesskeys.csv",
    ),
    *(
        f"*{name}*.{suffix}"
        for name in ("credential", "secret", "password", "token", "service-account", "service_account")
        for suffix in ("json", "yaml", "yml", "toml", "ini", "cfg", "conf", "csv", "txt")
        if (name, suffix) != ("token", "json")  # of a tokenizer
    ),
]
"""Names of keys and credentials, and of folders of them; in any case of letters."""


def _in_any_case(pattern: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in pattern)


EXCLUDES = [
    *(".git", ".venv", "venv", "/runs", "/data", "/mlruns", "/outputs", "/checkpoints", "/build", "/dist"),
    *("__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "node_modules"),
    *("*.arrow", "*.parquet", "*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx"),
    *(
        "pytorch_model*.bin",
        "*.db",
        "*.sqlite",
        "*.sqlite3",
        "*.bz2",
        "*.xz",
        "*.lz4",
        "*.zst",
        "*.gz",
        "!/segmenters/weights/**",
    ),
    # Last, so that nothing before takes it back: hidden files, keys and credentials never travel.
    ".?*",
    *(_in_any_case(pattern) for pattern in _KEYS),
]
"""What stays behind of the working folder (patterns of .gitignore, whose own count too)."""

INTERRUPTED = 130
_LARGEST_SHOWN = 4
_TRIES, _RETRY_SECONDS = 10, 3.0


class SubmissionError(SllmError):
    """A cluster that cannot be reached, does not let us in, or does not take the job."""


def submit(
    address: str,
    verb: str,
    config_path: str | None,
    arguments: Sequence[str],
    config: Config,
    folder: Path | None = None,
) -> int:
    """Run `python -m jobs VERB CONFIG ARGUMENTS` as a Ray job, follow its log on stdout; its exit code.

    The working folder (`folder`, by default the current one) travels, less `EXCLUDES`. Ctrl-C stops the job;
    a second one leaves it to the cluster.

    Raises `ConfigError` for a path that no other machine has, `SubmissionError` for trouble with the cluster.
    """
    folder = (folder or Path.cwd()).absolute()
    carried = [_carried(config_path, folder)] if config_path else []
    _refuse_local_paths(config, folder)
    _refuse_secrets(config_path, arguments)
    entrypoint = shlex.join(["python", "-m", "jobs", verb, *carried, *arguments])
    with _plain_trouble(address, folder):
        client = _client(address)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=_runtime_env(folder))
    _say(f"submitted {job} to {address}: {entrypoint}")
    _say("its log follows; Ctrl-C stops it")
    try:
        return _follow(client, job)
    except KeyboardInterrupt:
        _say(
            f"stopping {job}; Ctrl-C again leaves it to the cluster (`ray job stop {job} --address {address}`)"
        )
        client.stop_job(job)
        _follow(client, job)
        return INTERRUPTED


def travelling_files(folder: Path) -> dict[str, int]:
    """Names, relative to the working folder, and bytes of all that travels with a submitted job: as Ray packs it."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    found: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.stat().st_size

    folder = folder.absolute()
    _dir_travel(folder, [_get_excludes(folder, _excludes(folder))], note, include_gitignore=True)
    return dict(sorted(found.items()))


def _excludes(folder: Path) -> list[str]:
    """`EXCLUDES`, and each link: what is behind one lies elsewhere, or travels under its own name."""
    links = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".venv")]
        links += [Path(place, name) for name in (*folders, *files) if Path(place, name).is_symlink()]
    escaped = [re.sub(r"([\\*?\[\]!# ])", r"\\\1", link.relative_to(folder).as_posix()) for link in links]
    return [*EXCLUDES, *(f"/{name}" for name in escaped)]


def _refuse_secrets(config_path: str | None, arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for a secret that would stand in the entrypoint, which the dashboard shows, or travel in the
    configuration file."""
    remedy = "write ${VARIABLE} in its place, and set that variable here and on the cluster"
    for argument in arguments:
        if is_secret(argument):
            raise ConfigError(
                f"{redacted(argument)}: a secret does not travel with a submitted job: {remedy}"
            )
    if config_path is not None and is_secret(Path(config_path).read_text(encoding="utf-8")):
        raise ConfigError(
            f"{config_path} holds a secret, which does not travel with a submitted job: {remedy}"
        )


def _client(address: str) -> "JobSubmissionClient":
    """A client that shows the token of `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    for chatty in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # every ignored file is named, several times
    return JobSubmissionClient(address)


def _runtime_env(folder: Path) -> dict[str, object]:
    environment = {"RAY_JOB_STOP_SIGNAL": "SIGINT"}  # so that a stopped job can end its MLflow run
    if commit := git_commit():
        environment["SLLM_GIT_COMMIT"] = commit
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        value = os.environ.get(name, "")
        if value and not is_secret(value):  # the dashboard shows it
            environment[name] = value
    return {"working_dir": str(folder), "excludes": _excludes(folder), "env_vars": environment}


def _follow(client: "JobSubmissionClient", job: str) -> int:
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
                    f"lost the cluster while following {job} ({_first_line(error)}); the job may go on: "
                    f"see `ray job logs {job}`"
                ) from error
        time.sleep(_RETRY_SECONDS if failures else 0.2)
    if info.status == "SUCCEEDED":
        _say(f"{job} succeeded")
        return 0
    reason = (info.message or "").split(", last available logs")[0].strip()  # the log has been shown
    _say(f"{job} {str(info.status).lower()}: {reason}")
    return info.driver_exit_code or (INTERRUPTED if info.status == "STOPPED" else 1)


class _Log:
    """Prints a job's log once, though each connection sends it from its start."""

    def __init__(self) -> None:
        self._printed = 0

    async def tail(self, client: "JobSubmissionClient", job: str) -> None:
        seen = 0
        async for text in client.tail_job_logs(job):
            sys.stdout.write(text[max(0, self._printed - seen) :])
            sys.stdout.flush()
            seen += len(text)
            self._printed = max(self._printed, seen)


def _carried(config_path: str, folder: Path) -> str:
    """The configuration file as the job finds it: it travels with the working folder, so it must lie there."""
    path = Path(config_path).absolute()
    if not path.is_relative_to(folder):
        raise ConfigError(
            f"{config_path} lies outside {folder}, which is what travels to the cluster: copy it in"
        )
    return path.relative_to(folder).as_posix()


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
    # These may be names on a hub, unless such a folder stands here.
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
def _plain_trouble(address: str, folder: Path) -> Iterator[None]:
    """Say in one line what keeps a job from being submitted, and what to do."""
    try:
        yield
    except Exception as error:
        line = _first_line(error)
        if type(error).__name__ == "AuthenticationError":
            remedy = (
                "put the cluster's token into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            )
            raise SubmissionError(f"{address} does not let us in ({line}): {remedy}") from error
        if "exceeds the maximum size" in str(error):
            raise SubmissionError(
                f"{folder} is too large to travel to the cluster ({line.split('. ')[0]}); the largest in it: "
                f"{_largest(folder)}; move data elsewhere or list it in .gitignore"
            ) from error
        raise SubmissionError(
            f"cannot submit to {address}: {line}; is it the dashboard's address?"
        ) from error


def _largest(folder: Path) -> str:
    left_out = {pattern.strip("/") for pattern in EXCLUDES}
    sizes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file())
        for entry in folder.iterdir()
        if entry.name not in left_out
    }
    first = sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST_SHOWN]
    return ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in first)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _say(line: str) -> None:
    print(redacted(line), file=sys.stderr, flush=True)
