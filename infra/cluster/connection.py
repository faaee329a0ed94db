"""The connection to a Ray cluster: the one this job runs in, a named one, or one on this machine."""

import logging
import os

from infra.cluster.code_path import code_path_options
from pipeline.config import RayConfig


def is_cluster_given(config: RayConfig) -> bool:
    """Whether there is a cluster: a named one, or the one to which this job was submitted."""
    return config.address is not None or "RAY_ADDRESS" in os.environ


def connect(config: RayConfig) -> None:
    """Connect once; later calls change nothing. Token authentication is that of the cluster.

    The output of workers is only in Ray's logs (`SLLM_DEBUG=1` shows it): their errors reach the driver anyway, and
    other lines would break the progress bar.
    """
    # Ray's future default; it warns where the variable is not set.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    address = config.address or ("auto" if "RAY_ADDRESS" in os.environ else None)
    ray.init(
        address=address,
        **code_path_options(),
        include_dashboard=False if address is None else None,
        logging_level=logging.ERROR,
        log_to_driver=os.environ.get("SLLM_DEBUG", "") not in ("", "0"),
    )
