"""`sllm promote`: a trained model becomes a version of a registered model, under an alias that other jobs read."""

import dataclasses
import json
from typing import Annotated

import typer

from infra.registry.models import find_model
from infra.registry.promotion import Promoted, model_of_record, promote
from infra.tracking.store import resolve_uri
from jobs.runner.arguments import AsJson
from jobs.runner.console import say
from jobs.runner.output.folder import record_at
from pipeline.config.paths import PATH, is_mlflow_model, resolved_tracking_uri
from pipeline.errors import ModelError
from pipeline.printable import printable
from pipeline.redaction import MASK


def command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder or URL of a model, models:/m-ID or runs:/RUN_ID."),
        PATH,
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the registered model; by default the last part of MODEL."),
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--alias", help="Alias of this version, such as champion.")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Arguments of `sllm promote`."""
    promoted = run(model, name, alias, None if tracking is None else resolved_tracking_uri(tracking))
    if as_json:
        print(json.dumps({**dataclasses.asdict(promoted), "uri": promoted.uri}, indent=2))
        return
    state = "is now" if promoted.is_new else "is already"
    was = f"; {promoted.alias} was version {promoted.replaced}" if promoted.replaced else ""
    say(printable(f"{model} {state} version {promoted.version} of {promoted.name}{was}"))
    print(printable(promoted.uri))


def run(
    path: str, name: str | None = None, alias: str | None = None, tracking: str | None = None
) -> Promoted:
    """Register the model at `path` (a folder, a URL, or a name in MLflow) in the store of its record, or `tracking`.

    Raises `ModelError` where there is no such model, `ConfigError` where the store does not answer.
    """
    if is_mlflow_model(path):
        return promote(find_model(path, tracking), name, alias)
    record = record_at(path)
    if record is None:
        raise ModelError(
            f"there is no job.json at {path}: name the output of a training job, or runs:/RUN_ID"
        )
    section = record.config.get("tracking")
    named = section.get("uri") if isinstance(section, dict) else None
    recorded = named if isinstance(named, str) and MASK not in named else None
    model = model_of_record(record, resolve_uri(tracking or recorded))
    return promote(dataclasses.replace(model, given=path), name, alias)
