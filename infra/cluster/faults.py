"""Why training on a cluster failed, in one line with the remedy, and whether another attempt can help."""

import dataclasses
from dataclasses import dataclass

import torch
from ray.exceptions import RayActorError, RayError
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from pipeline.errors import SllmError, TrainingError, first_line


@dataclass(frozen=True)
class Fault:
    """What ended an attempt to train."""

    text: str
    is_final: bool = False
    """Whether another attempt would end the same way."""
    is_wait: bool = False
    """Whether the attempt only waited for nodes."""
    error: BaseException | None = None


def fault_of(error: BaseException) -> Fault:
    """The fault behind an error of `TorchTrainer.fit`."""
    return dataclasses.replace(_fault_of(error), error=error)


def _fault_of(error: BaseException) -> Fault:
    if isinstance(error, WorkerGroupError):
        # One lost worker makes the others fail too, so the likeliest first cause is told.
        faults = [_of_worker(rank, failure) for rank, failure in sorted(error.worker_failures.items())]
        return min(faults, key=lambda fault: fault[0])[1]
    if isinstance(error, ControllerError):
        return _of_controller(error.controller_failure)
    if isinstance(error, RayActorError):
        cause = error.error_msg.strip().splitlines()
        detail = f": {cause[-1]}" if error.actor_init_failed and cause else ""
        return Fault(f"Ray's train controller died{detail}")
    return Fault(f"training failed on the cluster: {_named(error)}")


def _of_worker(rank: int, error: BaseException) -> tuple[int, Fault]:
    """The fault of a rank, and its place among the faults of all ranks: the first is told."""
    if isinstance(error, SllmError):
        return 0, Fault(str(error), is_final=not isinstance(error, TrainingError))
    if isinstance(error, WorkerHealthCheckTimeoutError):
        return 1, Fault(f"worker {rank} does not answer: it is stopped or stuck, or its node is lost")
    if isinstance(error, WorkerHealthCheckFailedError) and isinstance(error.health_check_failure, RayError):
        return 2, Fault(
            f"worker {rank} died: it was killed, ran out of memory (then give it fewer tokens with "
            "train.micro_batch_tokens), or its node was lost; Ray's logs say more"
        )
    if isinstance(error, torch.OutOfMemoryError):
        return 3, Fault(
            f"worker {rank} has too little GPU memory ({first_line(error)}): make train.micro_batch_tokens smaller, "
            "deepspeed.zero_stage higher, or set train.activation_checkpointing"
        )
    if isinstance(error, torch.distributed.DistError) or any(
        name in str(error) for name in ("gloo", "NCCL", "ProcessGroup")
    ):
        return 5, Fault(
            f"worker {rank} lost its connection to the others ({_named(error)}): if it happens again, look at the "
            "network between the nodes"
        )
    return 4, Fault(f"worker {rank} failed: {_named(error)}")


def _of_controller(error: BaseException) -> Fault:
    if isinstance(error, SllmError):
        return Fault(str(error), is_final=True)
    if isinstance(error, WorkerGroupStartupTimeoutError):
        return Fault("there was no room for the workers", is_wait=True)
    if isinstance(error, InsufficientClusterResourcesError):
        return Fault(
            "the cluster can never have room for the workers: make ray.num_workers or ray.cpus_per_worker smaller "
            f"({' '.join(str(error).split())})",
            is_final=True,
        )
    if isinstance(error, WorkerGroupStartupFailedError):
        return Fault(
            "the workers died while they started: out of memory, or their node was lost; Ray's logs say more"
        )
    if isinstance(error, OSError):
        return Fault(f"the storage of the checkpoints failed: {_named(error)}; make room, or mend it")
    return Fault(f"Ray's train controller failed: {_named(error)}")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
