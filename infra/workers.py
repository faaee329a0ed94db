"""The workers of `sllm prepare`: in this process, in several processes of this machine, or on Ray (`cluster.tasks`)."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

from infra.cluster.connection import is_cluster_given
from infra.dispatch import Dispatcher, WorkerDiedError
from pipeline.config import Config
from pipeline.shards.workers import Workers

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")

PIPE_BYTES = 2**15
"""Bytes that a pipe takes without a reader."""
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class LocalWorkers(Generic[W]):
    """One worker, in this process."""

    def __init__(self, worker: W) -> None:
        self._worker = worker

    def map(self, work: Callable[[W, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work(worker, item)` for each item; yields (item, result)."""
        for item in items:
            yield item, work(self._worker, item)

    def close(self) -> None:
        """Nothing to stop."""


class _RemoteError(Exception):
    """The traceback of an error in another process, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Process:
    """A worker process, and this process's end of the pipe to it."""

    def __init__(self, context: Any, make_worker: Callable[[], Any]) -> None:
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, make_worker), daemon=True)
        self.process.start()
        other.close()


class ProcessWorkers(Dispatcher[W]):
    """One worker in each of several processes, which are forked from a server process with all imports."""

    def __init__(
        self, make_worker: Callable[[], W], num_workers: int, imports: list[str], **time_limits: Any
    ) -> None:
        """`imports`: modules that the server imports once for all processes; `time_limits`: as of `Dispatcher`."""
        super().__init__(num_workers, **time_limits)
        self._make_worker = make_worker
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(imports)

    def _start(self) -> _Process:
        return _Process(self._context, self._make_worker)

    def _send(self, worker: _Process, work: Callable[[W, T], R], item: T) -> None:
        message = ForkingPickler.dumps((work, item))

        def send() -> None:
            with contextlib.suppress(OSError):  # it died; its end of the pipe says so
                worker.pipe.send_bytes(message)

        if len(message) < PIPE_BYTES:
            send()
        else:  # a stopped process reads nothing, and this one must not wait for it
            threading.Thread(target=send, daemon=True).start()

    def _first_done(self, workers: list[_Process], seconds: float) -> _Process | None:
        by_pipe = {worker.pipe: worker for worker in workers}
        ready = wait(by_pipe, seconds)
        return by_pipe[ready[0]] if ready else None

    def _receive(self, worker: _Process) -> Any:
        try:
            result, error, trace = worker.pipe.recv()
        except (EOFError, ConnectionResetError) as lost:
            worker.process.join(5)
            code = worker.process.exitcode
            why = (
                f"killed by {signal.Signals(-code).name}"
                if code is not None and code < 0
                else f"exit code {code}"
            )
            raise WorkerDiedError(f"{self._where(worker)} died, {why}") from lost
        if error is not None:
            raise error from _RemoteError(trace)
        return result

    def _kill(self, worker: _Process) -> None:
        worker.process.kill()  # SIGKILL ends a stopped process too
        worker.process.join()
        worker.pipe.close()

    def _where(self, worker: _Process) -> str:
        return f"worker process {worker.process.pid}"

    def _resources(self) -> str:
        return f"processes of this machine, which has {num_cores()} cores for this job"


def _serve(pipe: Connection, make_worker: Callable[[], Any]) -> None:
    """The life of a worker process; it ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which then kills its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        worker = make_worker()
        pipe.send((None, None, ""))
    except Exception as error:
        pipe.send((None, error, traceback.format_exc()))
        return
    while True:
        try:
            work, item = pipe.recv()
        except EOFError:
            return
        reply: tuple[Any, Exception | None, str]
        try:
            reply = (work(worker, item), None, "")
        except Exception as error:
            reply = (None, error, traceback.format_exc())
        try:
            pipe.send(reply)
        except (TypeError, ValueError, AttributeError) as error:  # it cannot be pickled
            pipe.send((None, RuntimeError(f"{reply[1] or error!r}"), reply[2]))


def num_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = _CGROUP_QUOTA.read_text().split()
        cores = min(cores, -(-int(quota) // int(period)))  # "max" is no number
    return max(cores, 1)


def runs_on_ray(config: Config) -> bool:
    """Whether work that is not training runs on Ray: if `launcher` says so, or it is `auto` and a cluster is given."""
    return config.launcher == "ray" or (config.launcher == "auto" and is_cluster_given(config.ray))


def start_workers(
    config: Config,
    here: W,
    elsewhere: Callable[[], W],
    time_limits: Callable[[Any], float] = lambda item: 1.0,
) -> Workers[W]:
    """`prepare.num_workers` workers of this `launcher`; `auto` is Ray only if a cluster is given.

    `here`: the worker of this process; `elsewhere`: makes a worker in another process; `time_limits`: how many times
    `prepare.work_unit_timeout_seconds` an item may take.
    """
    num_workers = config.prepare.num_workers
    limits: dict[str, Any] = {
        "time_limit": config.prepare.work_unit_timeout_seconds,
        "time_limits": time_limits,
    }
    if runs_on_ray(config):
        from infra.cluster.connection import connect
        from infra.cluster.tasks import RayWorkers, num_cluster_cores

        connect(config.ray)
        return RayWorkers(elsewhere, num_workers or num_cluster_cores(), **limits)
    if (num_workers or num_cores()) == 1:
        return LocalWorkers(here)
    return ProcessWorkers(elsewhere, num_workers or num_cores(), imports=[__name__], **limits)
