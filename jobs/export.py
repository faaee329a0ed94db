"""`sllm export`: the model in a checkpoint, as a plain Hugging Face folder."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from pydantic import ValidationError

from infra.storage import filled_at_end
from infra.tracking.run import ActiveRun
from jobs.runner.arguments import AsJson, Force, Overrides, loaded
from jobs.runner.console import only_result_on_stdout
from jobs.runner.execution import run_job
from jobs.runner.output_folder import output_folder
from pipeline.config import Config
from pipeline.config.paths import PATH, PathError, is_url
from pipeline.config.renamed import tree_with_current_names
from pipeline.errors import ConfigError, ModelError
from pipeline.lineage import CHECKPOINTS_NAME, Artifact, JobRecord, describe_output, read_record
from pipeline.training.checkpoint import STATE_FILE, Checkpoint, newest
from pipeline.training.engine import weights_in
from pipeline.training.task import TrainingJob, build_task


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or a training job's output: its newest."),
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
    above the checkpoints; frozen weights come from the models that it read.
    """
    chosen = loaded(None, overrides)
    output = output_folder(chosen.output, "export needs output=FOLDER for the model")
    if is_url(path):
        raise PathError(f"{path!r} is a URL: name a folder")
    folder, record = _find(Path(path))
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
        with filled_at_end(run.output) as made:
            task.save(made, weights_in(checkpoint, task.module))
        return {"train/tokens": checkpoint.state["tokens"], "train/step": checkpoint.state["step"]}

    return run_job(
        "export",
        config,
        sections=[],
        inputs=[Artifact(found.kind, found.path, found.digest, record.run_id)],
        output=output,
        output_kind="model",
        body=body,
        force=force,
    )


def _find(path: Path) -> tuple[Path, JobRecord]:
    """The checkpoint's folder, and the record of the job that wrote it."""
    folder: Any = path if (path / STATE_FILE).is_file() else newest(path / CHECKPOINTS_NAME) or newest(path)
    if folder is None:
        raise ModelError(
            f"there is no checkpoint at {path}: name its folder, or the output of a training job"
        )
    for parent in folder.absolute().parents:
        record = read_record(parent)
        if record is not None and record.job in get_args(TrainingJob):
            return folder, record
    raise ModelError(f"no job.json of a training job above {folder}: leave checkpoints in the job's output")
