"""Where training workers run: what is asked of the cluster, and what is waited for."""

from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig
from ray.util.placement_group import PlacementGroup, remove_placement_group

from pipeline.config import RayConfig


def scaling(config: RayConfig) -> ScalingConfig:
    """The workers of the configuration, for Ray Train."""
    return ScalingConfig(
        num_workers=config.num_workers,
        use_gpu=config.use_gpu,
        resources_per_worker={"CPU": config.cpus_per_worker},
        placement_strategy=config.placement,
        label_selector=dict(config.node_labels) or None,
        elastic_resize_monitor_interval_s=config.resize_seconds,
    )


def waited_for(config: RayConfig) -> str | None:
    """What training waits for, and what the cluster has; None where there is room for the workers."""
    states = set(_placement_groups().values())
    free = ray.available_resources()
    asked = {"CPU": config.cpus_per_worker} | ({"GPU": 1.0} if config.use_gpu else {})
    lacks = any(free.get(kind, 0.0) < each * config.worker_range[0] for kind, each in asked.items())
    if "CREATED" in states or not ("PENDING" in states or lacks):
        return None
    smallest, largest = config.worker_range
    number = str(largest) if smallest == largest else f"{smallest} to {largest}"
    each = f"{config.cpus_per_worker:g} CPUs" + (" and 1 GPU" if config.use_gpu else "")
    labels = ", ".join(f"{name}={value}" for name, value in config.node_labels.items())
    nodes = [node for node in ray.nodes() if node["Alive"]]
    has = ", ".join(
        f"{free.get(kind, 0):g} of {total:g} {kind}s free"
        for kind, total in sorted(ray.cluster_resources().items())
        if kind in ("CPU", "GPU")
    )
    return (
        f"training waits for {number} workers with {each} each"
        + (f" on nodes with the labels {labels}" if labels else "")
        + f"; the cluster has {has or 'no CPUs'} on {len(nodes)} node{'s' * (len(nodes) != 1)}. It starts when "
        "there is room; Ctrl-C ends the wait"
    )


def withdraw_request(run: str) -> None:
    """Withdraw what a killed controller asked of the cluster for the run of this identifier.

    Until it expires, after 180 s, its successor with `[MIN, MAX]` workers would get nothing.
    """
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )

    ray.get(
        get_or_create_autoscaling_coordinator().cancel_request.remote(requester_id=f"train-{run}"), timeout=10
    )


def remove_left_groups() -> None:
    """Give back the resources of workers that are gone: a controller that was killed leaves them reserved.

    To be called when nothing of this job runs on the cluster.
    """
    for identifier, state in _placement_groups().items():
        if state != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(identifier)))


def _placement_groups() -> dict[str, str]:
    """States of the placement groups of this job, by identifier.

    Ray's public table does not name the job; its state API does, and needs a dashboard.
    """
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

    job = ray.get_runtime_context().get_job_id()
    accessor: Any = state._connect_and_get_accessor()
    groups = [PlacementGroupTableData.FromString(group) for group in accessor.get_placement_group_table()]
    return {
        group.placement_group_id.hex(): PlacementGroupTableData.PlacementGroupState.Name(group.state)
        for group in groups
        if group.creator_job_id.hex() == job
    }
