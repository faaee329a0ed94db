"""The fields of other programs' schemas that our files use, with their types; nothing else may be in a file.

KubeRay: the Go types of `ray-operator/apis/ray/v1` at v1.6 (rayjob_types.go, raycluster_types.go, raycronjob_types.go)
and its CRD reference; pods: Kubernetes' core/v1. Compose: the Compose specification.
"""

from typing import Any

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^\d+(m|Ki|Mi|Gi|Ti)?$"}


def fields(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others; `required` names those that must be there."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def mapping(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def items(values: Any) -> dict[str, Any]:
    return {"type": "array", "items": values}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


ENVIRONMENT = {
    "oneOf": [
        fields("name value", name=TEXT, value={"type": "string"}),
        fields(
            "name valueFrom",
            name=TEXT,
            valueFrom=fields("secretKeyRef", secretKeyRef=fields("name key", name=TEXT, key=TEXT)),
        ),
    ]
}
SIZES = fields("cpu memory", cpu=QUANTITY, memory=QUANTITY, **{"nvidia.com/gpu": QUANTITY})
CONTAINER = fields(
    "name image resources",
    name=TEXT,
    image=TEXT,
    resources=fields("limits requests", limits=SIZES, requests=SIZES),
    env=items(ENVIRONMENT),
    securityContext=fields(allowPrivilegeEscalation=FLAG),
    volumeMounts=items(fields("name mountPath", name=TEXT, mountPath=TEXT)),
)
VOLUME = {
    "oneOf": [
        fields(
            "name emptyDir",
            name=TEXT,
            emptyDir=fields(medium=one_of("Memory"), sizeLimit=QUANTITY),
        ),
        fields(
            "name persistentVolumeClaim",
            name=TEXT,
            persistentVolumeClaim=fields("claimName", claimName=TEXT),
        ),
    ]
}
TOLERATION = fields(
    key=TEXT,
    operator=one_of("Exists", "Equal"),
    value=TEXT,
    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
)
POD = fields(
    "containers",
    serviceAccountName=TEXT,
    securityContext=fields(runAsNonRoot=FLAG, runAsUser=COUNT, fsGroup=COUNT),
    containers=items(CONTAINER),
    volumes=items(VOLUME),
    tolerations=items(TOLERATION),
    nodeSelector=mapping({"type": "string"}),
)
TEMPLATE = fields("spec", spec=POD)
CLUSTER_SPEC = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=fields(mode=one_of("token", "disabled")),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(
        idleTimeoutSeconds=COUNT, resources=fields("limits requests", limits=SIZES, requests=SIZES)
    ),
    headGroupSpec=fields("rayStartParams template", rayStartParams=mapping(TEXT), template=TEMPLATE),
    workerGroupSpecs=items(
        fields(
            "groupName minReplicas maxReplicas rayStartParams template",
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=mapping(TEXT),
            template=TEMPLATE,
        )
    ),
)
DELETION_RULE = fields(
    "policy condition",
    policy=one_of("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"),
    condition={
        "oneOf": [  # exactly one of the two states
            fields("jobStatus", jobStatus=one_of("SUCCEEDED", "FAILED"), ttlSeconds=COUNT),
            fields("jobDeploymentStatus", jobDeploymentStatus=one_of("Failed"), ttlSeconds=COUNT),
        ]
    },
)
JOB_SPEC = {
    **fields(
        "rayClusterSpec",
        entrypoint=TEXT,
        backoffLimit=COUNT,
        deletionStrategy=fields("deletionRules", deletionRules=items(DELETION_RULE)),
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER_SPEC,
    ),
    "not": {"required": ["deletionStrategy", "shutdownAfterJobFinishes"]},  # two ways to say it
}
METADATA = fields(
    "name",
    name={"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"},
    namespace=TEXT,
    labels=mapping(TEXT),
)
_KINDS = {
    "RayCluster": CLUSTER_SPEC,
    "RayJob": JOB_SPEC,
    "RayCronJob": fields("schedule jobTemplate", schedule=TEXT, jobTemplate=JOB_SPEC),
}
KUBERAY = {
    kind: fields(
        "apiVersion kind metadata spec",
        apiVersion=one_of("ray.io/v1"),
        kind=one_of(kind),
        metadata=METADATA,
        spec=spec,
    )
    for kind, spec in _KINDS.items()
}
COMPOSE = fields(
    "services",
    name={"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
    services=mapping(
        fields(
            "image",
            image=TEXT,
            command=items({"type": "string"}),
            environment=mapping({"type": "string"}),
            restart=one_of("no", "always", "on-failure", "unless-stopped"),
            secrets=items(TEXT),
            volumes=items({"type": "string", "pattern": "^[a-z]+:/"}),
            ports=items({"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}),
            profiles=items(TEXT),
            shm_size={"type": "string", "pattern": r"^\d+[kmg]$"},
            healthcheck=fields(test=items(TEXT), interval=TEXT, retries=COUNT),
            depends_on=mapping(fields("condition", condition=one_of("service_started", "service_healthy"))),
            deploy=fields(
                resources=fields(
                    reservations=fields(
                        devices=items(
                            fields("capabilities", driver=TEXT, count=one_of("all"), capabilities=items(TEXT))
                        )
                    )
                )
            ),
        )
    ),
    secrets=mapping(fields("file", file=TEXT)),
    volumes=mapping(fields()),
)
