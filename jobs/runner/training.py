"""A training job: inputs, launcher, progress, metrics, and the folder of the model."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.checkpoints.folder import CheckpointFolder
from infra.mlmodel.files import write_mlmodel
from infra.registry.models import with_model_folders
from infra.tracking.run import ActiveRun
from jobs.runner.execution import run_job
from jobs.runner.output.folder import artifact_at, open_output, output_folder, record_at
from jobs.runner.progress import TrainingProgress, figures_line
from jobs.runner.run_page.plots import LossCurves
from pipeline.config import Config, StreamConfig
from pipeline.config.paths import is_url, joined
from pipeline.errors import ConfigError, ModelError, ShardError
from pipeline.lineage import CHECKPOINTS_NAME, MANIFEST_NAME, Artifact, JobRecord, artifact_of, digest_file
from pipeline.models.model_folder import check_folder
from pipeline.output_files import RECORD_NAME
from pipeline.shards.cache import ShardCache
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.task import Task, TrainingJob, build_task, train_config

NOT_LEARNED = (
    *("log_every", "eval_every", "eval_micro_batches", "spike_deviations", "activation_checkpointing"),
    *("checkpoint_every", "checkpoint_async", "keep_checkpoints"),
)
"""Options of `train` that change only logs and checkpoints: they may change at any time."""


def run_training(
    job: TrainingJob, config: Config, sections: Sequence[str], models: Sequence[str | None], force: bool
) -> JobRecord:
    """Train the model of `job` from `config.shards` and `models` into `config.output`, as one MLflow run.

    If `config.models` names a model of the job's own kind, training starts from its weights and reads no others.
    Raises `ConfigError` where shards or output are not named.
    """
    section = _section(job)
    folder = config.output
    if not config.shard_folders or folder is None:
        raise ConfigError(f"{job} needs shards=FOLDER (written by `sllm prepare`) and output=FOLDER")
    output = output_folder(folder, f"{job} needs output=FOLDER")
    named, config = config.models, with_model_folders(config)
    folders = {path: folder for (_, path), (_, folder) in zip(named, config.models, strict=True)}
    models = [folders.get(path, path) for path in models]
    start = goes_on_from(job, config)
    config = _with_start(job, config, start)
    inputs = [shards_artifact(one, config.stream) for one in config.shard_folders]
    inputs += [
        model_artifact(path) for path in ([start] if start is not None else models) if path is not None
    ]
    built: list[Task] = []

    def check() -> None:
        build_task(job, config, read_weights=False)
        if not force:
            _check_grown(job, config, output)
        if config.launcher == "local":
            built.append(build_task(job, config))

    def body(run: ActiveRun) -> dict[str, float]:
        last = _train(job, config, output, run, built.pop() if built else None)
        write_mlmodel(output)
        return last

    return run_job(
        job,
        config,
        sections=[
            "precision",
            "stream.block_tokens",
            "stream.packing_pool_windows",
            "stream.weights",
            *sections,
        ],
        inputs=inputs,
        output=output,
        output_kind="model",
        without=[
            *(f"{section}.train.{option}" for option in NOT_LEARNED),
            *(f"{other}.train" for other in ("lm", "vae", "sllm") if other != section),
        ],
        grows=f"{section}.train.steps",
        body=body,
        beside=[
            "shards",
            *_models_read(job, config, start, models),
            "stream",
            "launcher",
            "ray",
            "deepspeed",
        ],
        check=check,
        force=force,
    )


def _models_read(
    job: TrainingJob, config: Config, start: str | None, models: Sequence[str | None]
) -> list[str]:
    """The keys of the models that the job reads."""
    if start is not None:
        return [f"models.{_section(job)}"]
    return [f"models.{name}" for name in ("lm", "vae", "sllm") if getattr(config.models, name) in models]


def goes_on_from(job: TrainingJob, config: Config) -> str | None:
    """The model from whose weights the job starts: the one of the job's own kind in `models`, if it is named.

    The output folder of the job is its result, not its start.
    """
    named: str | None = getattr(config.models, _section(job))
    if named is None or config.output is None or _absolute(named) == _absolute(config.output):
        return None
    return named


def _absolute(path: str) -> str:
    return path.rstrip("/") if is_url(path) else str(Path(path).absolute())


def _section(job: TrainingJob) -> str:
    return job.removeprefix("train-")


def _with_start(job: TrainingJob, config: Config, start: str | None) -> Config:
    models = config.models.model_copy(update={_section(job): start})
    return config.model_copy(update={"models": models})


def check_planned(job: TrainingJob, config: Config, force: bool) -> None:
    """Raise `ConfigError` where `config.output` has a model that was planned with fewer steps.

    The job alone would go on with it. Among models that are compared it would be the only one whose learning rate fell
    twice.
    """
    output = str(config.output)
    before, steps = _steps_before(job, output), train_config(job, config).steps
    if before is not None and before < steps and not force:
        raise ConfigError(
            f"{output} was planned with {before} steps, and {steps} are needed now; going on with it is not comparable "
            "with a run of that many steps: choose another output, remove that folder, or train all anew with --force"
        )


def _steps_before(job: TrainingJob, output: str) -> int | None:
    """The steps of the job that has written to the folder."""
    earlier = record_at(output)
    if earlier is None or earlier.job != job:
        return None
    return int(earlier.config.get(_section(job), {}).get("train", {}).get("steps", 0))


def _check_grown(job: TrainingJob, config: Config, output: str) -> None:
    """Print a note where a run continues to more steps. Raises `ConfigError` where it has no checkpoint left."""
    before, steps = _steps_before(job, output), train_config(job, config).steps
    if before is None or before >= steps:
        return
    with CheckpointFolder(joined(output, CHECKPOINTS_NAME)).newest() as folder:
        last = None if folder is None else Checkpoint(folder).state["step"]
    if last is not None:
        print(
            f"{job}: {before} steps become {steps}; it continues from step {last} with the "
            f"learning rate of a cosine over {steps} steps, so the result is not that of a "
            f"run planned with {steps}",
            file=sys.stderr,
        )
    elif (earlier := record_at(output)) and open_output(output, "model").is_whole(earlier):
        key = f"models.{_section(job)}"
        raise ConfigError(
            f"{output} has no checkpoint left to continue from: start from its weights with {key}={output} and another "
            "output, or train all steps anew with --force"
        )


def shards_artifact(folder: str, options: StreamConfig) -> Artifact:
    """The shards in a folder or at a URL, with the digest of their manifest.

    Raises `ShardError` where the manifest is not the one that the finished job recorded there has written.
    """
    if not is_url(folder):
        artifact = artifact_of(folder)
        if (manifest := Path(folder, MANIFEST_NAME)).is_file():
            _check_manifest(folder, artifact.digest, digest_file(manifest))
        return artifact
    digest = hashlib.sha256(ShardCache(folder, options).read(MANIFEST_NAME)).hexdigest()
    record = record_at(folder)
    if record is None or record.finished is None:
        return Artifact("shards", folder, digest, None)
    _check_manifest(folder, record.output.digest, digest)
    return Artifact("shards", folder, digest, record.run_id)


def _check_manifest(folder: str, written: str, found: str) -> None:
    if found != written:
        raise ShardError(
            f"{folder.rstrip('/')}/{MANIFEST_NAME} is damaged or changed: its checksum is not that of {RECORD_NAME}; "
            "put back the earlier one, or make all shards anew with `sllm prepare` and --force"
        )


def model_artifact(path: str) -> Artifact:
    """The model in a folder. Raises `ModelError` where there is none, `ConfigError` where a job has not finished it."""
    if not is_url(path):
        check_folder(path)
    found = artifact_at(path)
    if is_url(path) and found.kind != "model":
        raise ModelError(f"there is no model at {path}: it holds {found.kind}")
    return found


def _train(
    job: TrainingJob, config: Config, output: str, run: ActiveRun, task: Task | None
) -> dict[str, float]:
    last: dict[str, float] = {}
    curves = LossCurves()
    with TrainingProgress(job, train_config(job, config).steps) as progress:

        def report(metrics: dict[str, float]) -> None:
            values = {key: value for key, value in metrics.items() if key not in ("step", "time", "again")}
            if "again" not in metrics:
                progress.show(int(metrics["step"]), figures_line(metrics), "dev/nll_per_token" in metrics)
            last.update(values, step=metrics["step"])
            curves.add(metrics["step"], values)
            run.log_metrics(values, step=int(metrics["step"]), seconds=metrics["time"])

        checkpoints = joined(output, CHECKPOINTS_NAME)
        if config.launcher != "local":
            from infra.cluster.training import train_on_cluster

            train_on_cluster(job, config, checkpoints, output, report)
        else:
            from infra.local_training import train_locally

            train_locally(job, config, checkpoints, output, report, task)
    if (drawn := curves.svg()) is not None:
        run.log_text("plots/loss.svg", drawn)
    return last
