"""What the three training verbs share: inputs, launcher, progress, metrics, and where the model goes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from infra.tracking import ActiveRun
from jobs.execution import run_job
from jobs.place import output_folder, record_at
from jobs.progress import TrainingProgress
from pipeline.config import Config, StreamConfig
from pipeline.errors import ConfigError
from pipeline.lineage import CHECKPOINTS_NAME, MANIFEST_NAME, Artifact, JobRecord, artifact_of
from pipeline.shard_cache import ShardCache
from pipeline.tasks import TrainingJob, train_config


def run_training(
    job: TrainingJob, config: Config, sections: Sequence[str], models: Sequence[str | None], force: bool
) -> JobRecord:
    """Train the model of `job` from `config.shards` and `models` into `config.output`, as one MLflow run."""
    if not config.shard_folders or config.output is None:
        raise ConfigError(f"{job} needs shards=FOLDER (written by `sllm prepare`) and output=FOLDER")
    output_folder(config.output, f"{job} needs output=FOLDER")
    inputs = [shards_artifact(folder, config.stream) for folder in config.shard_folders]
    inputs += [artifact_of(path) for path in models if path is not None]
    output = Path(config.output)

    def body(run: ActiveRun) -> dict[str, float]:
        return _train(job, config, output, run)

    return run_job(
        job,
        config,
        sections=["precision", "stream.block_tokens", "stream.pool_windows", "stream.weights", *sections],
        inputs=inputs,
        output=config.output,
        output_kind="model",
        body=body,
        force=force,
    )


def shards_artifact(folder: str, options: StreamConfig) -> Artifact:
    """The shards in a folder or at a URL: the same digest, that of the manifest."""
    if "://" not in folder:
        return artifact_of(folder)
    manifest = ShardCache(folder, options).read(MANIFEST_NAME)
    digest = hashlib.sha256(manifest).hexdigest()
    record = record_at(folder)
    made_here = record is not None and record.output.digest == digest
    return Artifact("shards", folder, digest, record.run_id if record is not None and made_here else None)


def _train(job: TrainingJob, config: Config, output: Path, run: ActiveRun) -> dict[str, float]:
    last: dict[str, float] = {}
    with TrainingProgress(job, train_config(job, config).steps) as progress:

        def report(metrics: dict[str, float]) -> None:
            progress.show(metrics)
            last.update(metrics)
            step = int(metrics["step"])
            run.log_metrics({key: value for key, value in metrics.items() if key != "step"}, step=step)

        checkpoints = output / CHECKPOINTS_NAME
        if config.launcher != "local":
            from infra.ray_training import train_on_cluster

            train_on_cluster(job, config, checkpoints, output, report)
        else:
            from infra.local_training import train_locally

            train_locally(job, config, checkpoints, output, report)
    return last
