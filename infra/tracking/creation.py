"""A run of the store is made once, also where the store did not answer, and stands below its parent."""

from typing import TYPE_CHECKING

from infra.tracking.journal import Operation
from infra.tracking.store import experiment_id_of, is_away
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "sllm.run_key"
"""Tag with our own name of a run, by which a run is found whose creation was not answered."""
_PARENT_KEY_TAG = "sllm.parent_key"
"""Tag with the key of the run above, whose id may come to be known late."""
_PARENT_TAG = "mlflow.parentRunId"


def run_of(
    client: "MlflowClient", tracking: TrackingConfig, operation: Operation, made: str | None
) -> tuple[str, bool]:
    """The run of the operation `create` -> its id, and whether it is new. An earlier one is set to RUNNING: the one
    that the operation names, `made` by this process, or with its key.

    Raises `ConfigError` where the store lacks a run that must exist, and the store's errors.
    """
    key, must_exist = operation["key"], operation["must_exist"]
    known = operation["run_id"] if must_exist else made or operation["run_id"]
    if known and _reopened(client, known, must_exist):
        return known, False
    experiment_id = experiment_id_of(tracking.model_copy(update={"experiment": operation["experiment"]}))
    found = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found and _reopened(client, found[0].info.run_id):
        return found[0].info.run_id, False
    parent, parent_key = operation.get("parent"), operation.get("parent_key")
    if not parent and parent_key:
        above = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{parent_key}'", max_results=1)
        parent = above[0].info.run_id if above else None
    tags = {KEY_TAG: key, _PARENT_TAG: parent, _PARENT_KEY_TAG: parent_key}
    created = client.create_run(
        experiment_id,
        start_time=operation["ms"],
        tags={name: value for name, value in tags.items() if value},
        run_name=operation["name"],
    )
    return created.info.run_id, True


def delete_copies(client: "MlflowClient", run_id: str) -> None:
    """Delete runs that a stalled server made when it went on, after this one had been made again."""
    run = client.get_run(run_id)
    if key := run.data.tags.get(KEY_TAG):
        for copy in client.search_runs([run.info.experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
            if copy.info.run_id != run_id:
                client.delete_run(copy.info.run_id)


def adopt(client: "MlflowClient", run_id: str) -> None:
    """Put runs below this one that began while its id was not known."""
    run = client.get_run(run_id)
    if not (key := run.data.tags.get(KEY_TAG)):
        return
    for below in client.search_runs([run.info.experiment_id], f"tags.`{_PARENT_KEY_TAG}` = '{key}'"):
        if _PARENT_TAG not in below.data.tags:
            client.set_tag(below.info.run_id, _PARENT_TAG, run_id)


def _reopened(client: "MlflowClient", run_id: str, must_exist: bool = False) -> bool:
    """Set a run to RUNNING -> whether the store has it.

    Raises `ConfigError` where it lacks one that `must_exist`.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if is_away(error):
            raise
        if must_exist:
            raise ConfigError(
                f"MLFLOW_RUN_ID={run_id}: the store has no such run; unset the variable"
            ) from error
        return False  # another store, or deleted: the job gets a new run
    return True
