"""A model becomes a version of a registered model, with an alias."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from infra.registry.models import StoredModel, find_model
from infra.tracking.logged_models import DIGEST_TAG, PASSED_ON, Clock, upload_model
from infra.tracking.store import client_of, is_away, unusable
from pipeline.errors import ModelError, first_line
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VERSIONS_TAG = "mlflow.modelVersions"
"""MLflow's own tag of a LoggedModel; its server sets it, its client on a database does not."""
_DESCRIPTION = (
    "Models trained by sllm. `sllm lineage models:/{name}@ALIAS` leads back to the corpus files of one."
)


@dataclasses.dataclass(frozen=True)
class Promoted:
    """A version of a registered model."""

    name: str
    version: str
    alias: str | None
    model_id: str
    run_id: str
    digest: str
    is_new: bool
    """Whether the version was made now; the model was registered under this name before."""
    replaced: str | None
    """The version that had the alias before; None if it is the same, or there was none."""

    @property
    def uri(self) -> str:
        """The name that other jobs take."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def model_of_record(record: JobRecord, uri: str) -> StoredModel:
    """The model in the store that the finished job of this record wrote. Raises `ModelError` where it has none."""
    where = f"{record.output.path}: its run {record.run_id or '(not in MLflow yet)'}"
    if record.output.kind != "model" or record.finished is None:
        raise ModelError(f"{record.output.path} holds no finished model: name the output of a training job")
    model = find_model(f"runs:/{record.run_id}", uri) if record.run_id else None
    if model is None or model.digest != record.output.digest:
        raise ModelError(
            f"{where} is not in the MLflow store {redacted(uri)}, or has another model there: run the job's command "
            "again to send what is missing, or name its store with --tracking"
        )
    return model


def promote(model: StoredModel, name: str | None = None, alias: str | None = None) -> Promoted:
    """Register a model under `name` (by default its own), and set the alias on its version.

    A model that has a version of that name keeps it. A model of which MLflow has only a reference is uploaded. Raises
    `ModelError` for what the store refuses, and where the model's folder is gone; `ConfigError` where the store does
    not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        with _is_default(model.store):
            return _promote(client_of(model.store), model, name, alias)
    except MlflowException as error:
        if is_away(error, model.store):
            raise unusable(model.store, error) from error
        raise ModelError(f"{model.given} cannot be registered: {redacted(first_line(error))}") from error


def _promote(client: "MlflowClient", model: StoredModel, name: str | None, alias: str | None) -> Promoted:
    logged: Any = client.get_logged_model(model.model_id)
    name = name or logged.name
    if not model.location and not upload_model(
        client, model.store, model.model_id, model.recorded_path, model.digest, model.run_id, Clock()
    ):
        raise ModelError(
            f"{model.given}: its folder {redacted(model.recorded_path)} is gone, and MLflow has no copy: train it again"
        )
    _make_registered(client, name)
    own = [
        one
        for one in client.search_model_versions(f"name='{name}'")
        if model.model_id in (one.model_id, (one.source or "").rpartition("/")[2])
    ]
    version = max(own, key=lambda one: int(one.version)) if own else None
    is_new = version is None
    if version is None:
        tags = {key: value for key, value in logged.tags.items() if key in (*PASSED_ON, DIGEST_TAG)}
        version = client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=model.run_id or None,
            tags=tags,
            description=_text(tags),
            model_id=model.model_id,
        )
        _note_version(client, model.model_id, name, int(version.version))
    replaced = None
    if alias:
        before = client.get_registered_model(name).aliases.get(alias)
        replaced = None if before is None or str(before) == str(version.version) else str(before)
        client.set_registered_model_alias(name, alias, version.version)
    return Promoted(
        name, str(version.version), alias, model.model_id, model.run_id, model.digest, is_new, replaced
    )


def _make_registered(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=_DESCRIPTION.format(name=name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _text(tags: dict[str, str]) -> str:
    """The description of a version, in words."""
    words = [
        f"trained on {tags['corpus']}" if "corpus" in tags else "",
        f"cut by {tags['segmenter']}" if "segmenter" in tags else "",
    ]
    return ", ".join(filter(None, words)).capitalize()


def _note_version(client: "MlflowClient", model_id: str, name: str, version: int) -> None:
    versions = json.loads(client.get_logged_model(model_id).tags.get(_VERSIONS_TAG, "[]"))
    if not any(one["name"] == name and int(one["version"]) == version for one in versions):
        versions.append({"name": name, "version": version})
        client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps(versions)})


@contextlib.contextmanager
def _is_default(uri: str) -> Iterator[None]:
    """A context in which `uri` is MLflow's own default: on a database its registry looks for models there."""
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    variable = "MLFLOW_TRACKING_URI"
    before = os.environ.get(variable)
    try:
        with _use_tracking_uri(uri):
            yield
    finally:  # MLflow has changed it
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before
