"""Ray, DeepSpeed, MLflow, storage, and the tokens that they ask for."""

import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from infra.cluster.connection import is_cluster_given
from infra.doctor.check import Check, answer_of
from infra.storage import Folder
from infra.tracking.store import check_server, resolve_uri, sqlite_path
from pipeline.config import Config
from pipeline.config.paths import fixed_part, is_url
from pipeline.errors import SllmError, first_line
from pipeline.redaction import redacted
from pipeline.remote import file_system

START_SECONDS = 180.0
_RAY = """
import json, sys
from infra.cluster.connection import connect
from pipeline.config import RayConfig
import ray
connect(RayConfig(address={address!r}))
value = ray.get(ray.remote(num_cpus=1)(lambda: 7).remote(), timeout=60)
print(json.dumps({{"version": ray.__version__, "value": value, "has": ray.cluster_resources()}}))
"""
_DEEPSPEED = """
import json, deepspeed
from infra import deepspeed_engine
print(json.dumps({"version": deepspeed.__version__}))
"""


def ray(config: Config) -> Check:
    """Whether a task runs on the cluster that is named, or on one that is started here for this check."""
    where = "the named cluster" if is_cluster_given(config.ray) else "a cluster on this machine"
    answer = answer_of(_RAY.format(address=config.ray.address), START_SECONDS)
    if isinstance(answer, str):
        return Check(
            "Ray", "error", f"no task runs on {where}: {redacted(answer)}",
            "on one machine, launcher=local works without Ray" if "this machine" in where
            else "check ray.address or RAY_ADDRESS, and the token (RAY_AUTH_TOKEN_PATH)",
        )  # fmt: skip
    has = answer["has"]
    gpus = f", {has['GPU']:g} GPUs" if has.get("GPU") else ""
    found = f"{answer['version']}; a task ran on {where}, with {has.get('CPU', 0):g} CPUs{gpus}"
    asked, lacks = config.ray.worker_range[0] * config.ray.cpus_per_worker, has.get("CPU", 0)
    if asked > lacks:
        return Check(
            "Ray", "warning", found, f"training would wait for {asked:g} CPUs: lower ray.num_workers"
        )
    return Check("Ray", "ok", found)


def deepspeed(config: Config) -> Check:
    """Whether DeepSpeed can be imported, and compile what offloading needs."""
    answer = answer_of(_DEEPSPEED, START_SECONDS)
    if isinstance(answer, str):
        return Check(
            "DeepSpeed",
            "error",
            f"it cannot be imported: {answer}",
            "python -m pip install 'deepspeed>=0.19.4,<0.20'",
        )
    offloads = config.deepspeed.offload_optimizer != "none" or config.deepspeed.uses_nvme
    lacks = [name for name in ("c++", "ninja") if shutil.which(name) is None] if offloads else []
    if lacks:
        return Check(
            "DeepSpeed", "error", f"{answer['version']}; to offload, it compiles code, and lacks {' and '.join(lacks)}",
            "install a C++ compiler and the package ninja, or set deepspeed.offload_optimizer=none",
        )  # fmt: skip
    return Check("DeepSpeed", "ok", answer["version"])


def mlflow(config: Config) -> Check:
    """Whether the store of runs can be used; nothing is made in it."""
    uri = resolve_uri(config.tracking.uri)
    shown = redacted(uri)
    file = sqlite_path(uri)
    if file is not None:
        return _sqlite_store(file)
    if "://" not in uri:
        return Check(
            "MLflow", "error", f"{shown} is no address of a store", "set tracking.uri=sqlite:///FILE or a URL"
        )
    try:
        trouble = check_server(config.tracking)
    except SllmError as error:
        return Check("MLflow", "error", str(error), "correct tracking.uri or MLFLOW_TRACKING_URI")
    if trouble is not None:
        return Check(
            "MLflow", "warning", f"{shown} does not answer: {trouble}",
            "jobs run without it and send later; start the server, or correct tracking.uri",
        )  # fmt: skip
    return Check("MLflow", "ok", f"{shown} answers")


def _sqlite_store(file: Path) -> Check:
    if not file.exists():
        return Check("MLflow", "ok", f"a new store: {file}")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as store:
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        return Check(
            "MLflow", "error", f"{file}: {error}", "move the file away, or name another in tracking.uri"
        )
    if not os.access(file, os.W_OK):
        return Check(
            "MLflow", "error", f"{file} cannot be written to", "allow it, or name another in tracking.uri"
        )
    return Check("MLflow", "ok", f"{runs:,} runs in {file}")


def storage(config: Config) -> Iterator[Check]:
    """Whether the object stores and servers that the configuration names can be reached."""
    read = [*config.data.inputs, *config.data.dev_inputs, *config.shard_folders, config.tokenizer.path or ""]
    read += [path for path in (config.models.lm, config.models.vae, config.models.sllm) if path]
    for url in dict.fromkeys(path for path in read if is_url(path)):
        try:
            system, path = file_system(fixed_part(url))
            there = system.exists(path)
        except Exception as error:  # each file system has errors of its own
            yield _unreachable(url, error)
            continue
        found = "can be reached" if there else "can be reached, but there is no such file or folder"
        yield Check(redacted(url), "ok" if there else "error", found, "" if there else "correct its name")
    if config.output is not None and is_url(config.output):
        try:
            Folder(config.output).check_bucket()
            yield Check(redacted(config.output), "ok", "can be reached")
        except SllmError as error:
            yield _unreachable(config.output, error)


def _unreachable(url: str, error: Exception) -> Check:
    return Check(
        redacted(url), "error", redacted(first_line(error)),
        "check the address, the credentials in the environment, and the network",
    )  # fmt: skip


def tokens(config: Config) -> Iterator[Check]:
    """The token of Ray clusters, and the variables that the configuration names; no value is shown."""
    given = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if given == "RAY_AUTH_TOKEN":
        yield Check("token of Ray", "ok", "in RAY_AUTH_TOKEN")
    elif file.is_file():
        is_open = stat.S_IMODE(file.stat().st_mode) & 0o077
        remedy = f"chmod 600 {file}" if is_open else ""
        yield Check(
            "token of Ray",
            "warning" if is_open else "ok",
            f"in {file}{', which others can read' * bool(is_open)}",
            remedy,
        )
    elif given is not None:
        yield Check(
            "token of Ray", "error", f"RAY_AUTH_TOKEN_PATH names {file}, which is not there", "correct it"
        )
    else:
        yield Check("token of Ray", "ok", "none; clusters with token authentication ask for one")
    for name in config.ray.environment:
        if not os.environ.get(name):
            yield Check(name, "error", "not set, but ray.environment names it", f"export {name}=...")
