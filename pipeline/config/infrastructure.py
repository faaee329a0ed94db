"""Where jobs run, and where their runs are recorded."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.paths import MachinePathString, PathError, PathOptions, TrackingUri, resolved_path
from pipeline.config.section import Count, CountOrZero, Section
from pipeline.remote import StorageError, text_at
from pipeline.unique_keys import read_json

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable, not its value."""


class RayConfig(Section):
    """The cluster."""

    address: str | None = None
    """Address of a running cluster; none: the one this job runs in, else one on this machine."""
    num_workers: Count | tuple[Count, Count] = 2
    """Training workers: the world size. `[MIN, MAX]`: as many as the cluster has room for; a lost node is done without,
    and one that joins is used, from the last checkpoint on. `evaluate` has as many workers, and the same figures for
    any number."""
    use_gpu: bool = False
    """One GPU for each worker that trains, evaluates or generates. On a cluster without it, models are on the CPU."""
    cpus_per_worker: float = Field(default=1, gt=0, le=1e12)
    """CPU cores for each worker that trains, evaluates or generates."""
    placement: Literal["PACK", "SPREAD"] = "PACK"
    """Training workers on as few nodes as possible, or spread over the nodes."""
    node_labels: dict[str, str] = Field(default={})
    """Labels of the nodes that these workers may run on, such as `{ray.io/accelerator-type: H100}`."""
    resize_seconds: float = Field(default=60, gt=0, le=1e9)
    """With `[MIN, MAX]`: how often it is looked whether nodes have joined. A change of the world size starts again from
    the last checkpoint."""
    max_failures: CountOrZero = 3
    """How often training restarts from its last checkpoint after failures, counted anew after each newer checkpoint."""
    step_timeout_seconds: float = Field(default=1800, gt=0, le=1e9)
    """Longest time that a training worker may need for a micro-batch (for its start: 600 s at least); then it is taken
    for stuck, and training restarts from the last checkpoint. Also the longest time for 16 micro-batches of `evaluate`;
    then another worker does them."""
    environment: tuple[EnvironmentName, ...] = ()
    """Names of environment variables that the job needs, such as `HF_TOKEN`; it fails at its start where one is not
    set. `--submit` sends names only, since Ray stores and shows values: a cluster has them from its own environment
    (on Kubernetes from a secret)."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The smallest and the largest world size."""
        given = self.num_workers
        return given if isinstance(given, tuple) else (given, given)

    @field_validator("num_workers")
    @classmethod
    def _in_order(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"[MIN, MAX]: {value[0]} is more than {value[1]}")
        return value


class DeepSpeedConfig(Section):
    """DeepSpeed ZeRO (used with `launcher: ray`)."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """0: nothing is partitioned; 1: optimizer state; 2: and gradients; 3: and parameters."""
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Keep the optimizer's state and fp32 weights in host memory, or on NVMe (stage 3), and update them there."""
    offload_parameters: Literal["none", "cpu", "nvme"] = "none"
    """Keep parameters in host memory or on NVMe between their uses; stage 3 only."""
    nvme_path: MachinePathString | None = None
    """Folder on each node's NVMe, for what is offloaded there."""
    config: PathOptions = Field(default={})
    """Raw DeepSpeed configuration, or the path or URL of a JSON file with one, merged over ours."""

    @property
    def uses_nvme(self) -> bool:
        """Whether optimizer state or parameters are offloaded to NVMe."""
        return "nvme" in (self.offload_optimizer, self.offload_parameters)

    @field_validator("config", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return read_json(text_at(resolved_path(value)), value)
        except PathError:
            raise
        except StorageError as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            raise ValueError(f"cannot read the file: {value}: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"the file is not valid JSON: {error}") from error

    @field_validator("config")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, ours in OURS_IN_DEEPSPEED.items():
            node: Any = value
            for name in key.split("."):
                node = node.get(name) if isinstance(node, dict) else None
            if node not in (None, "auto"):
                raise ValueError(f"{key} is set by {ours}; remove it from the DeepSpeed configuration")
        return value

    @model_validator(mode="after")
    def _offloads(self) -> Self:
        if self.offload_optimizer != "none" and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.offload_parameters != "none" and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage=3")
        if self.offload_optimizer == "nvme" and self.zero_stage != 3:
            raise ValueError("offload_optimizer=nvme needs zero_stage=3; or offload to cpu")
        if self.uses_nvme and self.nvme_path is None:
            raise ValueError("offloading to nvme needs nvme_path=FOLDER on each node's NVMe")
        return self


OURS_IN_DEEPSPEED = {
    "train_batch_size": "train.micro_batch_tokens and train.micro_batches_per_step",
    "train_micro_batch_size_per_gpu": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.micro_batches_per_step and ray.num_workers",
    "gradient_clipping": "train.max_gradient_norm",
    "optimizer": "train.learning_rate, weight_decay, beta1 and beta2",
    "scheduler": "train.learning_rate, warmup_steps and min_learning_rate_fraction",
    "bf16.enabled": "precision",
    "fp16.enabled": "precision",
    "zero_optimization.stage": "deepspeed.zero_stage",
    "zero_optimization.offload_optimizer.device": "deepspeed.offload_optimizer",
    "zero_optimization.offload_param.device": "deepspeed.offload_parameters",
}
"""Keys of a raw DeepSpeed configuration that would contradict options of ours."""


class TrackingConfig(Section):
    """MLflow."""

    uri: TrackingUri | None = None
    """Tracking server, or an SQLite file on one machine; none: MLFLOW_TRACKING_URI of the environment, else
    `sqlite:///runs/mlflow.db`."""
    experiment: str | None = None
    """Experiment that the runs belong to; none: MLFLOW_EXPERIMENT_NAME of the environment, else `sllm`. With
    MLFLOW_RUN_ID a job logs into that run; the jobs of `sllm run` and `sllm compare` get runs below it."""
    required: bool = False
    """Whether a job fails where MLflow does not answer; else it goes on, and what MLflow has not got is kept beside the
    output and sent later."""
    upload_models: bool = True
    """Whether MLflow gets the files of trained models, which doubles their size on disk; else it refers to their
    folders."""
    retry_seconds: float = Field(default=20, gt=0, le=1e6)
    """Seconds without an answer of MLflow until a job that has ended waits no longer for it, and until a job with
    `required` fails."""
    openlineage: bool = False
    """Whether jobs also send OpenLineage events (START, then COMPLETE, FAIL or ABORT, with the data read and written).
    Where they go is the client library's own configuration: `openlineage.yml`, or variables such as OPENLINEAGE_URL."""


class RunConfig(Section):
    """`sllm run`: jobs one after the other, each reading what those before it wrote."""

    jobs: tuple[str, ...] = ()
    """Names of the jobs, in their order; each writes to a folder of its own below `output`. None: `prepare`,
    `train-lm`, `train-vae`, `train-sllm`, `evaluate` and `generate`."""
