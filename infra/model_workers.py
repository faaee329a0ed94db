"""Where models are evaluated and generate text: in this process, or on workers of a Ray cluster."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from infra.workers import LocalWorkers, runs_on_ray
from pipeline.config import Config
from pipeline.evaluation.evaluate import Evaluators
from pipeline.evaluation.evaluator import Evaluator
from pipeline.models.device import device_for
from pipeline.shards.reading import Shards

T = TypeVar("T")


def start_evaluators(config: Config, shards: Shards) -> Evaluators:
    """`ray.num_workers` evaluators on a cluster, or one in this process."""
    if not runs_on_ray(config):
        return LocalWorkers(Evaluator(config, shards, device_for()))
    from infra.cluster.connection import connect
    from infra.cluster.tasks import RayWorkers, Resources
    from infra.cluster.worker_paths import with_absolute_paths

    connect(config.ray)
    return RayWorkers(
        partial(Evaluator.load, with_absolute_paths(config)),
        config.ray.worker_range[1],
        Resources.of_models(config.ray),
        "make evaluate.micro_batch_tokens smaller, give workers more memory, or raise ray.step_timeout_seconds",
        time_limit=config.ray.step_timeout_seconds,
    )


def on_one_worker(config: Config, work: Callable[..., Iterator[T]], *arguments: Any) -> Iterator[T]:
    """The items of `work(config, *arguments, may_use_gpu)`, made on one worker of a cluster or in this process.

    `may_use_gpu`: whether a GPU is reserved for it; in this process it may use any.
    """
    if not runs_on_ray(config):
        return work(config, *arguments, True)
    from infra.cluster.streamed import streamed
    from infra.cluster.worker_paths import with_absolute_paths

    return streamed(config.ray, work, with_absolute_paths(config), *arguments, config.ray.use_gpu)
