"""The connection to a Ray cluster: the one this job runs in, a named one, or one on this machine."""

import logging
import os

from pipeline.config import RayConfig


def connect(config: RayConfig) -> None:
    """Connect once; later calls change nothing. Token authentication stays as the cluster has it."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    ray.init(
        address=config.address or ("auto" if "RAY_ADDRESS" in os.environ else None),
        include_dashboard=False if config.address is None and "RAY_ADDRESS" not in os.environ else None,
        logging_level=logging.ERROR,
        log_to_driver=True,
    )
