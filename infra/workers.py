"""Where the workers of `sllm prepare` run: in this process, in several of this machine, or on Ray."""

from collections.abc import Callable

from infra.local_tasks import LocalWorkers, ProcessWorkers
from infra.ray_cluster import is_cluster_given
from pipeline.config import Config
from pipeline.shards.prepare import Workers
from pipeline.shards.worker import Worker


def start_workers(config: Config, here: Worker, elsewhere: Callable[[], Worker]) -> Workers:
    """`prepare.num_workers` workers, as `launcher` says; `auto` is Ray only where a cluster is given.

    `here` is the worker of this process, `elsewhere` makes one in another process.
    """
    if config.launcher == "ray" or (config.launcher == "auto" and is_cluster_given(config.ray)):
        from infra.ray_cluster import connect
        from infra.ray_tasks import RayWorkers

        connect(config.ray)
        return RayWorkers(elsewhere, config.prepare.num_workers)
    if config.prepare.num_workers == 1:
        return LocalWorkers(here)
    return ProcessWorkers(elsewhere, config.prepare.num_workers, imports=[__name__])
