"""The configuration of a deployment: one small tree, from which all files are rendered."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.infrastructure import EnvironmentName
from pipeline.config.section import Count, CountOrZero, Section
from pipeline.redaction import is_secret

Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""A name in Kubernetes; KubeRay adds to it, so it has at most 40 characters."""
Plain = Annotated[str, Field(pattern=r"^[\w./:@=+~,-]+$")]
"""Text without white space or characters that a shell interprets."""
SecretKey = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._-]+$")]
"""`SECRET/KEY` of Kubernetes."""


class Toleration(Section):
    """A taint of nodes that pods accept."""

    key: Plain
    """Key of the taint, such as `nvidia.com/gpu`."""
    value: Plain | None = None
    """Its value; none: any."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Its effect; none: any."""


class HeadSize(Section):
    """The head: it runs the driver and Ray's own services, and no work."""

    cpus: Count = 4
    """CPU cores."""
    memory_gib: Count = 16
    """Memory in GiB."""


class WorkerGroup(Section):
    """Nodes of one kind."""

    name: Label
    """Name of the group."""
    cpus: Count = 8
    """CPU cores of each node."""
    gpus: CountOrZero = 0
    """NVIDIA GPUs of each node."""
    memory_gib: Count = 32
    """Memory of each node in GiB; half of it may be shared memory, for NCCL and Ray's object store."""
    min_replicas: CountOrZero = 1
    """Fewest nodes."""
    max_replicas: Count = 1
    """Most nodes; more than `min_replicas`: Ray's autoscaler adds and removes nodes."""
    node_selector: dict[str, str] = Field(default={})
    """Labels of the Kubernetes nodes to run on."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of the Kubernetes nodes to accept."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must be at most max_replicas")
        return self

    @property
    def scales(self) -> bool:
        """Whether the number of nodes changes."""
        return self.min_replicas < self.max_replicas


class MachinesConfig(Section):
    """Machines without Kubernetes, for Ray's cluster launcher. Each has Docker."""

    head: Plain = "10.0.0.1"
    """Address of the head."""
    workers: tuple[Plain, ...] = ("10.0.0.2",)
    """Addresses of the workers."""
    ssh_user: Plain = "ubuntu"
    """User for SSH."""
    shared_folder: Plain = "/data"
    """Folder that all machines mount; it is `/data` in the containers."""


class SlurmConfig(Section):
    """Slurm. The nodes are those of the first of `workers`, `max_replicas` of them; the first one is the head too."""

    partition: Plain | None = None
    """Partition; none: the cluster's own default."""
    account: Plain | None = None
    """Account; none: the user's own default."""
    time_limit: Annotated[str, Field(pattern=r"^[0-9:-]+$")] = "24:00:00"
    """Longest time; 5 minutes before its end the job is told to stop, and it goes on when it is submitted again."""
    environment_folder: Plain = "/data/sllm/.venv"
    """Virtual environment with sllm, which all nodes see."""


class DeployConfig(Section):
    """What runs where."""

    job: tuple[str, ...] = Field(min_length=1)
    """Arguments of `sllm`: a verb, a preset or a file in the image or in `/data`, and KEY=VALUE."""
    image: Plain
    """Image of all nodes, built with the rendered Dockerfile."""
    name: Label = "sllm"
    """Name of the cluster and the job."""
    namespace: Label = "default"
    """Namespace in Kubernetes."""
    retries: CountOrZero = 2
    """How often a failed job is started again, on a new cluster; it goes on where it was."""
    keep_seconds: CountOrZero = 3600
    """How long the cluster of a job stays after its end, for its logs."""
    schedule: Annotated[str, Field(pattern=r"^(\S+ ){4}\S+$")] | None = None
    """Times at which the job is started again and again, as cron writes them; none: no RayCronJob is rendered."""
    queue: Label | None = None
    """Local queue of Kueue; none: the job does not wait for a queue."""
    storage_claim: Label | None = None
    """PersistentVolumeClaim (ReadWriteMany) that all pods mount at `/data`; none: the job reads and writes at URLs."""
    service_account: Label | None = None
    """Service account of the pods, where the cloud gives access to buckets by it; none: the namespace's own."""
    secrets: dict[EnvironmentName, SecretKey] = Field(default={})
    """Environment variables from Kubernetes secrets, as `SECRET/KEY`; elsewhere they are taken from the environment."""
    environment: dict[EnvironmentName, str] = Field(default={})
    """Environment variables that are no secrets, such as `MLFLOW_TRACKING_URI`."""
    head: HeadSize = HeadSize()
    workers: tuple[WorkerGroup, ...] = Field(min_length=1)
    """Groups of nodes."""
    machines: MachinesConfig = MachinesConfig()
    slurm: SlurmConfig = SlurmConfig()

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, given: dict[str, str]) -> dict[str, str]:
        for name, value in given.items():
            if is_secret(value) or is_secret(f"{name}={value}"):
                raise ValueError(f"{name} is a secret, and is not written into files: name it in secrets")
            if not re.fullmatch(r"[^\x00-\x1f\x7f]*", value):
                raise ValueError(f"{name} has control characters")
        return given

    @field_validator("job")
    @classmethod
    def _no_secret_arguments(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for argument in given:
            if is_secret(argument):
                raise ValueError("an argument holds a secret: write ${VARIABLE} in the file that it names")
            if not re.fullmatch(r"[^\x00-\x1f\x7f]+", argument):
                raise ValueError("an argument is empty or has control characters")
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [group.name for group in self.workers]
        if len(set(names)) < len(names):
            raise ValueError("two groups of workers have the same name")
        if self.queue is not None and self.scales:
            raise ValueError(
                "Kueue takes no clusters that scale: with queue, min_replicas must be max_replicas"
            )
        if twice := sorted(self.secrets.keys() & self.environment.keys()):
            raise ValueError(f"{', '.join(twice)} is in secrets and in environment")
        return self

    @property
    def scales(self) -> bool:
        """Whether the number of nodes changes."""
        return any(group.scales for group in self.workers)
