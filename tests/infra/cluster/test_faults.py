"""Each fault of a training run is one line with cause and remedy."""

import pytest
import torch
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from infra.cluster.faults import fault_of
from pipeline.errors import ShardError, TrainingError

GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.2]:33")
DIED = WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", ActorDiedError())


@pytest.mark.parametrize(
    ("failures", "text", "is_final"),
    [
        ({0: GLOO, 1: ShardError("shard 3 is damaged")}, "shard 3 is damaged", True),
        ({0: GLOO, 1: TrainingError("no room")}, "no room", False),
        ({0: GLOO, 1: DIED}, "worker 1 died", False),
        ({0: GLOO, 1: WorkerHealthCheckTimeoutError("hanging")}, "worker 1 does not answer", False),
        ({0: torch.OutOfMemoryError("CUDA out of memory")}, "micro_batch_tokens smaller", False),
        ({0: GLOO}, "worker 0 lost its connection", False),
        ({1: KeyError("weight")}, "worker 1 failed: KeyError: 'weight'", False),
    ],
)
def test_the_first_cause_in_the_workers_is_told(failures, text, is_final):
    error = WorkerGroupError("Traceback (most recent call last):\n ...", failures)
    fault = fault_of(error)
    assert text in fault.text and "\n" not in fault.text
    assert (fault.is_final, fault.is_wait, fault.error) == (is_final, False, error)


@pytest.mark.parametrize(
    ("failure", "text", "is_final", "is_wait"),
    [
        (WorkerGroupStartupTimeoutError(4), "no room for the workers", False, True),
        (InsufficientClusterResourcesError("needs 9 GPUs\nhas 2"), "can never have room", True, False),
        (WorkerGroupStartupFailedError("x"), "died while they started", False, False),
        (OSError(28, "No space left on device"), "No space left on device", False, False),
        (ShardError("mixed"), "mixed", True, False),
        (RuntimeError("a\nb"), "RuntimeError: a", False, False),
    ],
)
def test_what_failed_in_the_controller_is_told(failure, text, is_final, is_wait):
    fault = fault_of(ControllerError(failure))
    assert text in fault.text and "\n" not in fault.text
    assert (fault.is_final, fault.is_wait) == (is_final, is_wait)


def test_a_dead_controller_is_told():
    fault = fault_of(ActorDiedError())
    assert (fault.text, fault.is_final) == ("Ray's train controller died", False)
