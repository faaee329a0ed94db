"""`sllm export`: the model in a checkpoint, or one that MLflow has, as a plain Hugging Face folder."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from pydantic import ValidationError

from infra.checkpoints.folder import CheckpointFolder
from infra.mlmodel.files import write_mlmodel
from infra.registry.models import model_folder
from infra.storage import Folder, filled_at_end
from infra.tracking.run import ActiveRun
from jobs.runner.arguments import AsJson, Force, Overrides, loaded
from jobs.runner.console import only_result_on_stdout
from jobs.runner.execution import run_job
from jobs.runner.output.folder import artifact_at, output_folder, record_at
from jobs.runner.progress import WorkProgress
from pipeline.config import Config
from pipeline.config.paths import PATH, is_mlflow_model, resolved_path
from pipeline.config.renamed import tree_with_current_names
from pipeline.errors import ConfigError, ModelError, TrainingError
from pipeline.fetched import local_model
from pipeline.lineage import CHECKPOINTS_NAME, Artifact, JobRecord, describe_output
from pipeline.training.checkpoint import STATE_FILE, Checkpoint
from pipeline.training.engine import weights_in
from pipeline.training.task import TrainingJob, build_task


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint, a training job's output, or a model in MLflow.",
        ),
        PATH,
    ],
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Arguments of `sllm export`."""
    with only_result_on_stdout(as_json) as show:
        show(dataclasses.asdict(run(checkpoint, overrides or [], force)))


def run(path: str, overrides: list[str], force: bool = False) -> JobRecord:
    """Write the model in the checkpoint at `path` (or the newest one of a training job's output) to `output`.

    Weights are the average if the checkpoint has one. The configuration is that of the training job, from its record
    above the checkpoints; frozen weights come from the models that it read. Of a model in MLflow (`models:/NAME@ALIAS`)
    the files are copied.
    """
    chosen = loaded(None, overrides)
    output = output_folder(chosen.output, "export needs output=FOLDER for the model")
    if is_mlflow_model(path):
        return _copy(model_folder(path, chosen.tracking.uri), chosen, output, force)
    with _found(resolved_path(path)) as (folder, name):
        return _export(folder, name, chosen, output, overrides, force)


def _copy(folder: str, config: Config, output: str, force: bool) -> JobRecord:
    """Copy the model in this folder or at this URL."""
    model = artifact_at(folder)
    record = record_at(folder)
    assert record is not None, "the folders of MLflow's models have one"

    def body(run: ActiveRun) -> dict[str, float]:
        source = Path(local_model(folder, config.stream.cache))
        with filled_at_end(run.output) as made:
            made.mkdir(parents=True, exist_ok=True)
            for name in record.files:
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, made / name)
        return {"bytes": sum(record.files.values())}

    return run_job(
        "export",
        config,
        sections=[],
        inputs=[model],
        output=output,
        output_kind="model",
        body=body,
        force=force,
    )


def _export(
    folder: Path, name: str, chosen: Config, output: str, overrides: list[str], force: bool
) -> JobRecord:
    """Export the checkpoint with this path or URL, of which `folder` is a local copy or itself."""
    record = _record_above(name)
    try:
        config = Config.model_validate(tree_with_current_names(record.config)).model_copy(
            update={"output": output}
        )
    except ValidationError as error:
        raise ConfigError(
            f"{record.output.path} was trained with another version of sllm: {error}"
        ) from error
    if any(override.startswith("tracking.") for override in overrides):
        config = config.model_copy(update={"tracking": chosen.tracking})
    found = describe_output("checkpoint", folder)

    def body(run: ActiveRun) -> dict[str, float]:
        checkpoint = Checkpoint(folder)
        task = build_task(cast(TrainingJob, record.job), config)
        with filled_at_end(run.output) as made, WorkProgress("export", "parameters") as progress:
            done = progress.begin("export", sum(one.numel() for one in task.module.parameters()))
            task.save(made, weights_in(checkpoint, task.module, done))
            write_mlmodel(str(made))
        return {"train/tokens": checkpoint.state["tokens"], "train/step": checkpoint.state["step"]}

    return run_job(
        "export",
        config,
        sections=[],
        inputs=[Artifact(found.kind, name, found.digest, record.run_id)],
        output=output,
        output_kind="model",
        body=body,
        force=force,
    )


@contextlib.contextmanager
def _found(path: str) -> Iterator[tuple[Path, str]]:
    """The checkpoint at a path or URL, or the newest one of a job's output: a local folder, and its path or URL.

    Raises `TrainingError` where it is damaged, `ModelError` where there is none.
    """
    if Folder(path).read(STATE_FILE) is not None:
        parent, _, name = Folder(path).url.rstrip("/").rpartition("/")
        with CheckpointFolder(parent).opened(name) as folder:
            if isinstance(folder, str):
                raise TrainingError(folder)
            yield folder, f"{parent}/{name}"
        return
    for below in (f"{path}/{CHECKPOINTS_NAME}", path):
        checkpoints = CheckpointFolder(below)
        with checkpoints.newest() as newest:
            if newest is not None:
                yield newest, f"{checkpoints.url}/{newest.name}"
                return
    raise ModelError(f"there is no checkpoint at {path}: name its folder, or the output of a training job")


def _record_above(checkpoint: str) -> JobRecord:
    parent = checkpoint.rpartition("/")[0]
    while parent and not parent.endswith(":/"):
        record = record_at(parent)
        if record is not None and record.job in get_args(TrainingJob):
            return record
        parent = parent.rpartition("/")[0]
    raise ModelError(
        f"no job.json of a training job above {checkpoint}: leave checkpoints in the job's output"
    )
