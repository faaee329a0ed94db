"""The connection to a Ray cluster: the one this job runs in, a named one, or one on this machine."""

import logging
import os
import socket
import threading
from typing import Any

from infra.cluster.code_path import code_path_options
from pipeline.config import RayConfig
from pipeline.errors import ConfigError, first_line

log = logging.getLogger("sllm")

REACH_SECONDS = 10.0
"""How long the head of a named cluster may need to accept a connection."""

NOTICE_SECONDS = 20.0
"""After so long a line says that the connection is still being made."""


def is_cluster_given(config: RayConfig) -> bool:
    """Whether there is a cluster: a named one, or the one to which this job was submitted."""
    return config.address is not None or bool(os.environ.get("RAY_ADDRESS"))


def connect(config: RayConfig) -> None:
    """Connect once; later calls change nothing. Token authentication is that of the cluster.

    `config.address` comes first, then RAY_ADDRESS as Ray reads it, then a cluster started on this machine. A line says
    which cluster it is, where one was named. The output of workers is only in Ray's logs (`SLLM_DEBUG=1` shows it):
    their errors reach the driver anyway, and other lines would break the progress bar.

    Raises `ConfigError` where a named cluster does not answer.
    """
    # Ray's future default; it warns where the variable is not set.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or None
    named_by = "ray.address" if config.address not in (None, "auto") else "RAY_ADDRESS"
    if address == "auto":
        address = _found(os.environ.get("RAY_ADDRESS"))
    _check_reachable(address, named_by)
    is_debugging = os.environ.get("SLLM_DEBUG", "") not in ("", "0")
    notice = threading.Timer(NOTICE_SECONDS, log.warning, [f"still {_doing(address)}"])
    notice.daemon = True
    notice.start()
    try:
        ray.init(
            address=address,
            **code_path_options(),
            include_dashboard=False if address in (None, "local") else None,
            logging_level=logging.ERROR,
            log_to_driver=is_debugging,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"the Ray cluster at {address or 'this machine'} cannot be used: {first_line(error)}; check {named_by}, "
            "and for a cluster with token authentication RAY_AUTH_TOKEN_PATH"
        ) from error
    finally:
        notice.cancel()
    if not is_debugging:
        _keep_errors_in_logs()
    if address not in (None, "local"):
        log.warning(_described(ray.get_runtime_context().gcs_address))


def _found(address: str | None) -> str:
    """The cluster that Ray's `auto` means. Raises `ConfigError` where there is none."""
    from ray._private.services import get_ray_address_from_environment

    try:
        return (
            address if address not in (None, "", "auto") else get_ray_address_from_environment("auto", None)
        )
    except ConnectionError as error:
        raise ConfigError(
            f"ray.address=auto: no Ray cluster runs on this machine ({first_line(error)}): start one, or name HOST:PORT"
        ) from error


def _check_reachable(address: str | None, named_by: str) -> None:
    """Raise `ConfigError` where nothing listens at the address; Ray would try for two minutes, then end the process."""
    if address in (None, "auto", "local"):
        return
    if "://" in str(address):
        raise ConfigError(
            f"{named_by}={address} is not the HOST:PORT of a Ray cluster: jobs are sent to a cluster from outside "
            "with --submit http://HOST:8265"
        )
    host, _, port = str(address).rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {named_by}={address} ({first_line(error)}): is it running, and is its port "
            "(6379 by default) open from here?"
        ) from error


def _doing(address: str | None) -> str:
    is_own = address in (None, "local")
    return "starting Ray on this machine" if is_own else f"connecting to the Ray cluster at {address}"


def _described(address: str) -> str:
    import ray

    has = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    parts = [(nodes, "node"), (has.get("CPU", 0.0), "CPU"), (has.get("GPU", 0.0), "GPU")]
    return f"connected to the Ray cluster at {address}: " + ", ".join(
        f"{number:g} {unit}{'s' * (number != 1)}" for number, unit in parts
    )


def _keep_errors_in_logs() -> None:
    """Do not print the errors of all processes of the job: Ray has no option for that."""
    from ray._private import worker

    def nothing(*_: Any, **__: Any) -> None:
        pass

    worker.print_to_stdstream = nothing
