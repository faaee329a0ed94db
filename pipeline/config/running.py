"""Where jobs run and what records them."""

from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Section


class RayConfig(Section):
    """The cluster."""

    address: str | None = None
    """Address of a running cluster; none: the one this job runs in, else one on this machine."""
    num_workers: int = Field(default=2, ge=1)
    """Training workers: the world size."""
    use_gpu: bool = False
    """One GPU for each training worker."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPU cores for each training worker."""
    max_failures: int = Field(default=1, ge=0)
    """Times a training run starts again from its last checkpoint after a failure."""


class DeepSpeedConfig(Section):
    """DeepSpeed ZeRO (used with `launcher: ray`)."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """0: nothing is partitioned; 1: optimizer state; 2: and gradients; 3: and parameters."""
    config: dict[str, Any] = Field(default={})
    """Raw DeepSpeed configuration, merged over ours."""


class TrackingConfig(Section):
    """MLflow."""

    uri: str = "sqlite:///runs/mlflow.db"
    """Tracking server, or an SQLite file on one machine."""
    experiment: str = "sllm"
    """Experiment that the runs belong to."""


class RunConfig(Section):
    """`sllm run`: jobs one after the other, each reading what those before it wrote."""

    jobs: tuple[
        Literal["prepare", "train-lm", "train-vae", "train-sllm", "evaluate", "generate", "compare"], ...
    ] = (
        "prepare",
        "train-lm",
        "train-vae",
        "train-sllm",
        "evaluate",
        "generate",
    )
    """The jobs; each writes to a folder of its own below `output`."""
