"""Training on a cluster: Ray Train starts the workers, DeepSpeed trains, and checkpoints are written to storage."""

import contextlib
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.torch.torch_trainer import TorchTrainer

from infra.checkpoints.folder import CheckpointFolder
from infra.cluster.connection import connect
from infra.cluster.faults import Fault, fault_of
from infra.cluster.placement import remove_left_groups, scaling, waited_for, withdraw_request
from infra.cluster.process_group import ProcessGroup
from infra.cluster.reports import Receiver
from infra.cluster.training_worker import train_in_worker
from infra.cluster.worker_paths import with_absolute_paths
from infra.local_training import ReportMetrics, log
from pipeline.config import Config, RayConfig
from pipeline.errors import TrainingError
from pipeline.training.task import TrainingJob

WAIT_NOTICE_SECONDS = 10
"""After so long without room for the workers a line says what is waited for."""
START_SECONDS = 3600
"""How long Ray Train waits for that room before it asks anew."""
ELASTIC_START_SECONDS = 15
"""The same with `[MIN, MAX]` workers: then it asks for as many as there is room for now, without a node just lost."""
MOST_SECONDS_BETWEEN_ATTEMPTS = 60


def train_on_cluster(
    job: TrainingJob, config: Config, checkpoints: str, output: str, report: ReportMetrics
) -> None:
    """Train to the end, with restarts after failures, and write the model to `output`.

    `checkpoints` and `output` are paths or fsspec URLs that all nodes reach. Raises `TrainingError` where
    `ray.max_failures` restarts brought no newer checkpoint.
    """
    connect(config.ray)
    start_seconds = ELASTIC_START_SECONDS if _is_elastic(config.ray) else START_SECONDS
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_seconds)
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(min(600.0, config.ray.step_timeout_seconds))
    folder = CheckpointFolder(checkpoints)
    receiver = Receiver(report)
    with receiver.receiving():
        failures, reached = 0, folder.newest_step() or 0
        while fault := _attempt(job, config, folder, receiver):
            if fault.is_wait:
                continue
            before, reached = reached, folder.newest_step() or 0
            failures = 1 if reached > before else failures + 1
            if fault.is_final or failures > config.ray.max_failures:
                raise TrainingError(fault.text) from fault.error
            log.warning(
                f"{fault.text}. Training restarts from step {reached:,}: restart {failures} of at most "
                f"{config.ray.max_failures} without a newer checkpoint"
            )
            time.sleep(min(2 ** (failures - 1), MOST_SECONDS_BETWEEN_ATTEMPTS))
    folder.keep_model(output)


def _attempt(job: TrainingJob, config: Config, folder: CheckpointFolder, receiver: Receiver) -> Fault | None:
    """Train until the end, which gives None, or the first fault.

    Ray Train itself restarts workers only to resize them and before a node is taken away: it counts failures over the
    whole run, and does not survive the death of its controller.
    """
    # Ray's own storage holds markers of Ray Train alone: see infra/checkpoints/__init__.py.
    with tempfile.TemporaryDirectory(prefix="sllm-ray-train-") as ray_storage:
        trainer = TorchTrainer(
            train_in_worker,
            train_loop_config={
                "job": job,
                "config": with_absolute_paths(config).model_dump(),
                "reports": receiver.queue,
                "checkpoints": folder.url,
            },
            torch_config=ProcessGroup(timeout_s=math.ceil(max(1800, config.ray.step_timeout_seconds))),
            scaling_config=scaling(config.ray),
            run_config=RunConfig(
                name=job,
                storage_path=ray_storage,
                failure_config=FailureConfig(
                    max_failures=0, controller_failure_limit=3 if _is_elastic(config.ray) else 0
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        with _waits_are_told(config.ray), _interruptible():
            try:
                trainer.fit()
            except TrainingFailedError as error:
                return fault_of(error)
            except RayError as error:  # the controller died
                with contextlib.suppress(RayError):
                    remove_left_groups()
                    withdraw_request(trainer.train_run_context.run_id)
                return fault_of(error)
    return None


def _is_elastic(config: RayConfig) -> bool:
    return isinstance(config.num_workers, tuple)


@contextmanager
def _waits_are_told(config: RayConfig) -> Iterator[None]:
    """A context in which a line says what is waited for, once each time that workers do not get their resources."""
    ended = threading.Event()

    def watch() -> None:
        is_told = False
        while not ended.wait(WAIT_NOTICE_SECONDS):
            with contextlib.suppress(RayError):
                text = waited_for(config)
                if text is not None and not is_told:
                    log.warning(text)
                is_told = text is not None

    thread = threading.Thread(target=watch, name="waiting-for-workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _interruptible() -> Iterator[None]:
    """A context in which Ctrl-C is a `KeyboardInterrupt`: Ray Train handles it, and ends the process with code 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
