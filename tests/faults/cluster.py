"""A Ray cluster of three nodes on this machine: a head without CPUs, and two nodes with one CPU each.

Each node is a `ray start --block` of its own, at its own loopback address, so that it can be killed as a machine can.
"""

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.processes import descendants, kill_all, title, wait_for
from tests.ports import free_ports, is_open

NODES = (0, 1)
_HAS_STARTED = b"Ray runtime started."  # in the log of `ray start`
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_STARTS = 4
"""On a busy machine Ray gives up a node whose parts do not start within its limits."""


class Cluster:
    """The cluster; `folder` must have a short path, as Unix sockets are below it."""

    def __init__(self, folder: Path, environment: dict[str, str], dashboard: bool = False) -> None:
        """`dashboard`: whether jobs can be submitted."""
        self.folder, self.environment, self._has_dashboard = folder, environment, dashboard
        self.port, *self._other_ports = free_ports(5)
        self._head: subprocess.Popen[bytes] | None = None
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """For `ray.address`."""
        return f"127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """For `--submit`."""
        return f"http://127.0.0.1:{self._other_ports[0]}"

    def start(self) -> None:
        """Start all nodes that do not run."""
        if self._head is None:
            names = (
                "dashboard-port",
                "dashboard-agent-listen-port",
                "dashboard-agent-grpc-port",
                "ray-client-server-port",
            )
            ports = [f"--{name}={port}" for name, port in zip(names, self._other_ports, strict=True)]
            before = self._starts()
            self._head = self._ray(
                *("--head", f"--port={self.port}", "--num-cpus=0"),
                f"--include-dashboard={str(self._has_dashboard).lower()}",
                *(f"--temp-dir={self.folder / 'ray'}", *ports),
            )
            if not wait_for(lambda: self._starts() > before and is_open(self.port), 120, 0.2):
                raise RuntimeError(f"the head does not start; see {self.folder / 'nodes.log'}")
        for node in [node for node, process in self._nodes.items() if process.poll() is not None]:
            self.kill_node(node)  # what is left of one that ended by itself
        for node in NODES:
            # One after the other: nodes that start at the same time choose the same names of sockets.
            for _ in range(_STARTS):
                if node in self._nodes or self._start_node(node):
                    break
            else:
                raise RuntimeError(f"a node does not start; see {self.folder / 'nodes.log'}")

    def _start_node(self, node: int) -> bool:
        before = self._starts()
        process = self._ray(
            f"--address={self.address}", "--num-cpus=1", f"--node-ip-address=127.0.0.{node + 2}"
        )
        self._nodes[node] = process
        wait_for(lambda: self._starts() > before or process.poll() is not None, 120, 0.2)
        if self._starts() > before:
            return True
        self.kill_node(node)
        return False

    def _starts(self) -> int:
        """How many nodes have started so far."""
        log = self.folder / "nodes.log"
        return log.read_bytes().count(_HAS_STARTED) if log.exists() else 0

    def processes(self, *titles: str) -> list[int]:
        """Processes of the nodes whose titles begin so, such as `ray::TrainController`."""
        running = [process for process in (self._head, *self._nodes.values()) if process is not None]
        return [
            pid for process in running for pid in descendants(process.pid) if title(pid).startswith(titles)
        ]

    def kill_node(self, node: int) -> None:
        """SIGKILL for the raylet of a node, and what is left of the node after it."""
        process = self._nodes.pop(node)
        below = descendants(process.pid)
        for pid in below:
            if "/raylet/raylet" in title(pid).partition(" ")[0]:
                kill_all(pid)
        kill_all(process.pid)
        process.wait()

    def kill(self) -> None:
        """SIGKILL for all that runs on all nodes, the head's first."""
        running = [process for process in (self._head, *self._nodes.values()) if process is not None]
        for process in running:
            kill_all(process.pid)
        for process in running:
            process.wait()
        self._head, self._nodes = None, {}

    def _ray(self, *options: str) -> subprocess.Popen[bytes]:
        ray = Path(sys.executable).parent / "ray"
        with (self.folder / "nodes.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ray), "start", "--block", "--object-store-memory=80000000", *options],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_ends_with_its_parent,
            )


def _ends_with_its_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
