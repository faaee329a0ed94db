"""The nodes on which this job's workers are, and what each of them uses. This module imports nothing large."""

import contextlib
import re
import threading
import time
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CALL_SECONDS = 30.0
"""After so long a measurement has failed: the first one imports MLflow."""
WAIT_SECONDS = 0.5
"""The end of the job is looked for so often."""
_lock = threading.Lock()
_seen: dict[str, None] = {}


def worker_is_on(node: str) -> None:
    """Note that a worker of this process's job runs on the node with this id."""
    with _lock:
        _seen[node] = None


def node_of_worker() -> str:
    """Id of the node of this worker."""
    node: str = ray.get_runtime_context().get_node_id()
    return node


class _Monitor:
    """An actor without a reserved core: it measures its node."""

    def __init__(self) -> None:
        from infra.machine import Machine

        self._machine = Machine()

    def sample(self) -> dict[str, float]:
        return self._machine.sample()


class WorkingNodes:
    """Measures all nodes where workers have been, other than that of this process."""

    def __init__(self) -> None:
        self._own = node_of_worker()
        self._names: dict[str, str] = {}
        self._monitors: dict[str, Any] = {}
        self.here = self._name(self._own)
        """Name of the node of this process."""

    def sample(self, ended: threading.Event) -> dict[str, dict[str, float]]:
        """The figures of each node that answers before `ended` is set, by its name; lost nodes are left out."""
        with _lock:
            nodes = [node for node in _seen if node != self._own]
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        asked = {}
        for node in nodes:
            if node in alive:
                monitor = self._monitors.get(node) or self._start(node)
                asked[monitor.sample.remote()] = node
        done, waiting = list[Any](), list(asked)
        give_up = time.monotonic() + CALL_SECONDS
        while waiting and not ended.is_set() and time.monotonic() < give_up:
            answered, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=WAIT_SECONDS)
            done += answered
        found: dict[str, dict[str, float]] = {}
        for ref in done:
            try:
                found[self._name(asked[ref])] = ray.get(ref)
            except RayError:  # started anew, where the node is still there
                self._monitors.pop(asked[ref], None)
        return found

    def close(self) -> None:
        """End the monitors."""
        for monitor in self._monitors.values():
            with contextlib.suppress(RayError):
                ray.kill(monitor)
        self._monitors.clear()

    def _start(self, node: str) -> Any:
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        monitor: Any = ray.remote(_Monitor).options(num_cpus=0, scheduling_strategy=strategy).remote()
        self._monitors[node] = monitor
        return monitor

    def _name(self, node: str) -> str:
        """Host name of a node, as a part of a metric's name; with a part of its id where another node has the same."""
        if node not in self._names:
            hosts = {one["NodeID"]: str(one["NodeManagerHostname"]) for one in ray.nodes()}
            host = re.sub(r"[^\w.\-]", "_", hosts.get(node, "node"))
            is_taken = host in self._names.values() or list(hosts.values()).count(hosts.get(node, "")) > 1
            self._names[node] = f"{host}-{node[:6]}" if is_taken else host
        return self._names[node]
