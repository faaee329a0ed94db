"""System metrics of a running job: those of its own machine, and of each node of the cluster where its workers are."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator

from infra.machine import Machine, is_measured, sample_seconds
from infra.tracking.run import ActiveRun
from pipeline.errors import first_line

log = logging.getLogger("sllm")

SHORTEST_SECONDS = 1.0
"""A shorter time since the last measurement gives no other at the end."""


@contextlib.contextmanager
def system_metrics(run: ActiveRun, began_seconds: float) -> Iterator[None]:
    """A context in which `system/...` metrics are logged every 10 s and at the end, as MLflow names them; on a cluster
    `system/HOST/...`. Their steps are seconds since `began_seconds` (Unix time), so a resumed job goes on.

    No measurement that fails harms the job, and none goes on after the context: a call to Ray while the process ends
    would end it with an error.
    """
    if not is_measured():
        yield
        return
    ended = threading.Event()

    def measure() -> None:
        try:
            _measure(run, began_seconds, ended)
        except Exception as error:
            log.warning(f"warning: this job's system metrics end here: {first_line(error)}")

    thread = threading.Thread(target=measure, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _measure(run: ActiveRun, began_seconds: float, ended: threading.Event) -> None:
    here = Machine()
    nodes = None
    last = time.monotonic()
    while True:
        is_last = ended.wait(sample_seconds())
        if is_last and time.monotonic() - last < SHORTEST_SECONDS:
            break
        last = time.monotonic()
        if nodes is None and _is_on_ray():
            from infra.cluster.nodes import WorkingNodes

            nodes = WorkingNodes()
        own = f"{nodes.here}/" if nodes is not None else ""
        values = {f"system/{own}{name}": value for name, value in here.sample().items()}
        if nodes is not None and not is_last:
            for node, figures in nodes.sample(ended).items():
                values |= {f"system/{node}/{name}": value for name, value in figures.items()}
        run.log_system_metrics(values, int(time.time() - began_seconds))
        if is_last:
            break
    if nodes is not None:
        nodes.close()


def _is_on_ray() -> bool:
    """Whether this process is connected to a cluster; `ray` is not imported for it."""
    ray = sys.modules.get("ray")
    return ray is not None and hasattr(ray, "is_initialized") and ray.is_initialized()
