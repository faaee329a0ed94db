"""Resources of KubeRay (`ray.io/v1`, KubeRay 1.6): RayCluster, RayJob and RayCronJob."""

import shlex
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from infra.deploy.settings import DeployConfig, WorkerGroup

_USER = 1000
"""Of the image."""
_IDLE_SECONDS = 300
_DATA = "/data"


def ray_cluster(config: DeployConfig) -> dict[str, Any]:
    """A standing cluster, to submit to."""
    return {**_header(config, "RayCluster"), "spec": _cluster_spec(config)}


def ray_job(config: DeployConfig) -> dict[str, Any]:
    """One job, with a cluster of its own that ends with it."""
    return {**_header(config, "RayJob"), "spec": _job_spec(config)}


def ray_cron_job(config: DeployConfig) -> dict[str, Any]:
    """The job again and again, at the times of `config.schedule`."""
    spec = {"schedule": config.schedule, "jobTemplate": _job_spec(config)}
    return {**_header(config, "RayCronJob"), "spec": spec}


def _header(config: DeployConfig, kind: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": config.name, "namespace": config.namespace}
    if config.queue is not None:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": config.queue}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata}


def _job_spec(config: DeployConfig) -> dict[str, Any]:
    return {
        "entrypoint": shlex.join(["sllm", *config.job]),
        "backoffLimit": config.retries,
        **_deletion(config),
        "rayClusterSpec": _cluster_spec(config),
    }


def _deletion(config: DeployConfig) -> dict[str, Any]:
    """When the cluster goes. Kueue takes only jobs that say it in the older way."""
    if config.queue is not None:
        return {"shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": config.keep_seconds}
    # `Failed`: the last retry has failed too, or the job could not be submitted.
    conditions = ({"jobStatus": "SUCCEEDED"}, {"jobDeploymentStatus": "Failed"})
    rules = [
        {"policy": "DeleteCluster", "condition": {**condition, "ttlSeconds": config.keep_seconds}}
        for condition in conditions
    ]
    return {"deletionStrategy": {"deletionRules": rules}}


def _cluster_spec(config: DeployConfig) -> dict[str, Any]:
    head = {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - its pod's service asks it
        "template": {"spec": _pod(config, "ray-head", config.head.cpus, config.head.memory_gib)},
    }
    autoscaler: dict[str, Any] = {}
    if config.scales:
        resources = {"cpu": "500m", "memory": "1Gi"}
        autoscaler = {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "idleTimeoutSeconds": _IDLE_SECONDS,
                "resources": {"limits": resources, "requests": dict(resources)},
            },
        }
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        **autoscaler,
        "headGroupSpec": head,
        "workerGroupSpecs": [_group(config, group) for group in config.workers],
    }


def _group(config: DeployConfig, group: WorkerGroup) -> dict[str, Any]:
    pod = _pod(config, "ray-worker", group.cpus, group.memory_gib, group.gpus)
    if group.node_selector:
        pod["nodeSelector"] = dict(group.node_selector)
    if group.tolerations:
        pod["tolerations"] = [
            {
                "key": one.key,
                "operator": "Exists" if one.value is None else "Equal",
                **({} if one.value is None else {"value": one.value}),
                **({} if one.effect is None else {"effect": one.effect}),
            }
            for one in group.tolerations
        ]
    return {
        "groupName": group.name,
        "replicas": group.min_replicas if group.scales else group.max_replicas,
        "minReplicas": group.min_replicas,
        "maxReplicas": group.max_replicas,
        "rayStartParams": {},
        "template": {"spec": pod},
    }


def _pod(config: DeployConfig, name: str, cpus: int, memory_gib: int, gpus: int = 0) -> dict[str, Any]:
    size: dict[str, str] = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"}
    if gpus:
        size["nvidia.com/gpu"] = str(gpus)
    volumes = {"shm": {"emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, memory_gib // 2)}Gi"}}}
    mounts = {"shm": "/dev/shm"}  # noqa: S108 - the shared memory itself
    if config.storage_claim is not None:
        volumes["data"] = {"persistentVolumeClaim": {"claimName": config.storage_claim}}
        mounts["data"] = _DATA
    container = {
        "name": name,
        "image": config.image,
        "resources": {"limits": size, "requests": dict(size)},
        "env": [*_plain(config.environment), *_secret(config.secrets)],
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    return {
        **({} if config.service_account is None else {"serviceAccountName": config.service_account}),
        # The image's user owns what it writes to the volume.
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
        "containers": [container],
        "volumes": [{"name": name, **source} for name, source in volumes.items()],
    }


def _plain(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in environment.items()]


def _secret(secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    named = {name: source.split("/") for name, source in secrets.items()}
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in named.items()
    ]
