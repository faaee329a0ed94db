"""What a machine uses: processor, memory, disk, network and GPUs, as MLflow's own monitors measure them."""

import contextlib
import os
from typing import Any

_OFF = ("false", "0")
SAMPLE_SECONDS = 10.0
"""MLflow's default."""


def is_measured() -> bool:
    """Whether jobs measure their machines: unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is `false`."""
    return os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() not in _OFF


def sample_seconds() -> float:
    """Seconds between two measurements: MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, else 10."""
    with contextlib.suppress(ValueError):
        return max(0.1, float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "")))
    return SAMPLE_SECONDS


class Machine:
    """The machine of this process."""

    def __init__(self) -> None:
        """Imports `mlflow`, which takes seconds."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        for kind in (GPUMonitor, ROCMMonitor):
            with contextlib.suppress(Exception):  # no such GPU, driver or library
                self._monitors.append(kind())
                break
        self.sample()  # the processor's use is that since the last call

    def sample(self) -> dict[str, float]:
        """The figures now: `cpu_utilization_percentage`, `system_memory_usage_megabytes` and so on."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            with contextlib.suppress(Exception):  # a figure that this machine does not give
                monitor.collect_metrics()
                found |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return found
