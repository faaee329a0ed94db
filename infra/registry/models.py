"""The models of MLflow by their names: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/m-ID`, `runs:/ID`."""

import dataclasses
import functools
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.registry.artifact_files import ENDPOINT
from infra.storage import Folder, StorageError
from infra.tracking.logged_models import DIGEST_TAG, EXTERNAL_TAG, MODEL_TAG, PATH_TAG
from infra.tracking.store import check_reachable, client_of, is_away, resolve_uri, sqlite_path, unusable
from pipeline.config import Config
from pipeline.config.paths import is_mlflow_model, is_url
from pipeline.errors import ModelError, first_line
from pipeline.lineage import Artifact, digest_files, parse_record
from pipeline.output_files import RECORD_NAME
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger("sllm")

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_FORMS = "models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest, models:/m-ID or runs:/RUN_ID"


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A model of ours in an MLflow store."""

    given: str
    """The name by which it was found."""
    store: str
    """Address of the store."""
    model_id: str
    """Id of its LoggedModel."""
    run_id: str
    """The run that made it; empty where the store does not say."""
    digest: str
    """SHA-256 (hex) of its files."""
    recorded_path: str
    """Folder or URL that the job wrote."""
    location: str
    """Where MLflow keeps its files, as MLflow writes it; empty where it has none of them."""
    name: str = ""
    """Name of the registered model, if it was found by it."""
    version: str = ""

    @property
    def artifact(self) -> Artifact:
        """The model as an input of a job; its path is the recorded one."""
        return Artifact("model", self.recorded_path, self.digest, self.run_id or None)


def find_model(given: str, tracking_uri: str | None = None) -> StoredModel:
    """The model with this name (see `is_mlflow_model`) in a store, by default that of the environment.

    Reads nothing of the model. Raises `ModelError` where the store has no such model, or it is none of ours;
    `ConfigError` where the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    uri = resolve_uri(tracking_uri)
    file = sqlite_path(uri)
    if file is not None and not file.is_file():
        raise ModelError(f"{given}: there is no MLflow store at {file}: name yours in tracking.uri")
    try:
        check_reachable(uri)
        client = client_of(uri)
        version = _version(client, given)
        model_id = _id_in(client, given) if version is None else _id_of(version)
        model = client.get_logged_model(model_id) if model_id else None
    except MlflowException as error:
        if is_away(error, uri):
            raise unusable(uri, error) from error
        raise ModelError(
            f"{given}: the MLflow store {redacted(uri)} has no such model: {first_line(error)}"
        ) from error
    except OSError as error:
        raise unusable(uri, error) from error
    if model is None or DIGEST_TAG not in model.tags:
        raise ModelError(f"{given} is no model that a job of ours trained: name one of those")
    return StoredModel(
        given=given,
        store=uri,
        model_id=model.model_id,
        run_id=model.source_run_id or "",
        digest=model.tags[DIGEST_TAG],
        recorded_path=model.tags.get(PATH_TAG, ""),
        location="" if model.tags.get(EXTERNAL_TAG) == "true" else model.artifact_location,
        name="" if version is None else version.name,
        version="" if version is None else str(version.version),
    )


def model_folder(given: str, tracking_uri: str | None = None) -> str:
    """The folder or URL with the files of a model: `given` itself, unless it is a name in MLflow.

    A local folder is compared with the digest in the store; what is at a URL is compared where it is fetched. Raises
    as `find_model`, and `ModelError` where the files are gone or changed.
    """
    if not is_mlflow_model(given):
        return given
    model = find_model(given, tracking_uri)
    folder = _folder(model)
    called = f"version {model.version} of {model.name}, " if model.name else ""
    log.info(f"{given}: {called}{model.model_id} of run {model.run_id or 'unknown'}, in {redacted(folder)}")
    return folder


def with_model_folders(config: Config) -> Config:
    """The configuration with folders or URLs in place of the models that it names by MLflow's names. Raises as
    `model_folder`."""
    folder = functools.partial(model_folder, tracking_uri=config.tracking.uri)
    models = {name: folder(path) for name, path in config.models if path and is_mlflow_model(path)}
    update: dict[str, Any] = {}
    if models:
        update["models"] = config.models.model_copy(update=models)
    for section in ("trunk", "tokenizer"):
        part = getattr(config, section)
        if part.path and is_mlflow_model(part.path):
            update[section] = part.model_copy(update={"path": folder(part.path)})
    return config.model_copy(update=update) if update else config


def _version(client: "MlflowClient", given: str) -> "ModelVersion | None":
    """The version of a registered model; None for another form of name."""
    scheme, _, rest = given.partition(":/")
    rest = rest.strip("/")
    if scheme != "models" or _MODEL_ID.fullmatch(rest):
        return None
    name, _, alias = rest.partition("@")
    if alias:
        return client.get_model_version_by_alias(name, alias)
    name, _, version = rest.rpartition("/")
    if name and version.isdecimal():
        return client.get_model_version(name, version)
    if name and version == "latest":
        found = client.search_model_versions(f"name='{name}'" if "'" not in name else 'name=""')
        if found:
            return max(found, key=lambda one: int(one.version))
        raise ModelError(f"{given}: there is no registered model {name!r}: register it with `sllm promote`")
    raise ModelError(f"{given} names no model: write {_FORMS}")


def _id_of(version: "ModelVersion") -> str:
    """The LoggedModel of a version, or nothing."""
    found = _MODEL_ID.search(version.source or "")
    return version.model_id or (found[0] if found else "")


def _id_in(client: "MlflowClient", given: str) -> str:
    scheme, _, rest = given.partition(":/")
    rest = rest.strip("/")
    if scheme == "models":
        return rest
    run_id, _, name = rest.partition("/")
    model_id = client.get_run(run_id).data.tags.get(MODEL_TAG, "")
    if not model_id:
        raise ModelError(f"{given}: the run {run_id} has written no model")
    if name and name not in ("model", client.get_logged_model(model_id).name):
        raise ModelError(
            f"{given}: the model of run {run_id} is called {client.get_logged_model(model_id).name}"
        )
    return model_id


def _folder(model: StoredModel) -> str:
    """The folder or URL with the files, checked as far as they are on this machine."""
    if not model.location:
        _check_recorded(model)
        return model.recorded_path
    url = _url(model.location, model.store)
    if is_url(url):
        return url
    if not Path(url).is_dir():
        raise ModelError(
            f"{model.given}: MLflow keeps its files in {url}, which is not there on this machine: use a tracking "
            "server that serves artifacts, or the folder of the model"
        )
    _check_recorded(dataclasses.replace(model, recorded_path=url))
    return url


def _check_recorded(model: StoredModel) -> None:
    """Raise `ModelError` where a folder does not hold the files of the model."""
    path = model.recorded_path
    try:
        content = Folder(path).read(RECORD_NAME)
    except StorageError as error:
        raise ModelError(f"{model.given}: its files cannot be reached: {error}") from error
    record = None if content is None else parse_record(content, path)
    if record is None or record.output.digest != model.digest:
        raise ModelError(
            f"{model.given}: its folder {redacted(path)} is gone, or holds another model: train it again, or name "
            "another one"
        )
    if is_url(path):
        return  # compared when it is fetched
    try:
        found = digest_files(path, record.files)
    except OSError as error:
        raise ModelError(f"{model.given}: {path} is damaged: {error.strerror}: {error.filename}") from error
    if found != model.digest:
        raise ModelError(f"{model.given}: {path} is damaged: its files have not the digest that MLflow has")


def _url(location: str, store: str) -> str:
    """Where MLflow keeps files as a path or URL that our own readers take."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return parts.path
    if parts.scheme != "mlflow-artifacts":
        return location
    server = urlsplit(store)
    host = parts.netloc or server.netloc
    return f"mlflow+{server.scheme}://{host}{server.path.rstrip('/')}{ENDPOINT}{parts.path.lstrip('/')}"
