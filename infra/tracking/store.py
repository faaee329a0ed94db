"""The MLflow store: its address, a client, the experiment, and whether it can be reached.

`mlflow` itself is imported where it is needed, never at the top: it takes seconds.
"""

import contextlib
import logging
import os
import re
import socket
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, first_line
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI, DEFAULT_EXPERIMENT = "sqlite:///runs/mlflow.db", "sllm"
_TRAINS_MODELS = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow's web interface opens an experiment as one of prompts and traces."""
_SQLITE = "sqlite:///"
_ROOT_LOCK = threading.Lock()
_DATABASE_PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306}
_CONNECT_SECONDS = 5.0
_REFUSALS = (
    "does not exist",
    "authentication failed",
    "no pg_hba.conf entry",
    "Access denied",
    "Unknown database",
)
"""What databases say that answer and refuse."""
CHECK_SECONDS = 60.0
"""Longest wait for a store before a job starts."""


def resolve_uri(uri: str | None) -> str:
    """The tracking URI: the given one, else MLFLOW_TRACKING_URI, else an SQLite file below the working folder.

    An SQLite path is made absolute, so that all processes of the job use the same file.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    if not uri.startswith(_SQLITE) or uri == "sqlite:///:memory:":
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute())


def resolve_experiment(name: str | None) -> str:
    """The experiment: the given one, else MLFLOW_EXPERIMENT_NAME, else `sllm`."""
    return name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite tracking store; None for a server or another database."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def client_of(uri: str) -> "MlflowClient":
    """A client of the store. The store is created or migrated here, before any other process opens it."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # By default MLflow retries for four minutes if a server refuses, and waits two minutes for each hanging request.
    # `Sender` retries instead.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (file := sqlite_path(uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient
    from mlflow.store.db import utils as database

    database.MAX_RETRY_COUNT = 1  # of a connection; by default MLflow tries for 100 seconds
    if file is None:
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
    from mlflow.tracking._tracking_service.utils import _SERVER_ARTIFACT_ROOT_ENV_VAR as ROOT

    # MLflow's own default, for an experiment that it makes itself, is the working folder.
    with _ROOT_LOCK:
        before = os.environ.get(ROOT)
        os.environ[ROOT] = _artifacts_beside(file)
        try:
            return MlflowClient(tracking_uri=uri)
        finally:
            if before is None:
                del os.environ[ROOT]
            else:
                os.environ[ROOT] = before


def _artifacts_beside(file: Path) -> str:
    """Where the files of the runs of an SQLite store are."""
    return (file.parent / "artifacts").as_uri()


def check_server(tracking: TrackingConfig) -> str | None:
    """As `check_store`, for a store on a server: it makes nothing on this machine."""
    return check_store(tracking) if urlsplit(resolve_uri(tracking.uri)).hostname is not None else None


def check_store(tracking: TrackingConfig) -> str | None:
    """Open the store before the job writes anything, within `CHECK_SECONDS` -> why it does not answer; None if it does.

    Raises `ConfigError` where it cannot be used, and with `tracking.required` where it does not answer.
    """
    uri = resolve_uri(tracking.uri)
    tried: Future[str] = Future()

    def open_store() -> None:
        try:
            tried.set_result(experiment_id_of(tracking))
        except BaseException as error:
            tried.set_exception(error)

    threading.Thread(target=open_store, name="check-store", daemon=True).start()
    try:
        tried.result(CHECK_SECONDS if sqlite_path(uri) is None else None)
    except ConfigError:
        raise
    except Exception as trouble:
        error = trouble if tried.done() else TimeoutError(f"no answer within {CHECK_SECONDS:g} s")
        if not tracking.required and is_away(error, uri):
            return reason(error)
        raise unusable(uri, error) from error
    return None


def experiment_id_of(tracking: TrackingConfig) -> str:
    """The experiment, created if it is missing; the artifacts of an SQLite store are beside its file.

    Raises the store's errors, and `ConfigError` where the experiment is deleted.
    """
    from mlflow.exceptions import MlflowException

    uri, name = resolve_uri(tracking.uri), resolve_experiment(tracking.experiment)
    check_reachable(uri)
    client = client_of(uri)
    found = client.get_experiment_by_name(name)
    file = sqlite_path(uri)
    beside = None if file is None else _artifacts_beside(file)
    if found is None:
        try:
            made: str = client.create_experiment(name, artifact_location=beside, tags=_TRAINS_MODELS)
            return made
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # another job has made it meanwhile
        assert found is not None
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment {name!r} is deleted: bring it back with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another one in tracking.experiment"
        )
    found_id: str = found.experiment_id
    for key, value in _TRAINS_MODELS.items():
        if key not in found.tags:
            with contextlib.suppress(MlflowException):  # not allowed: it decides only how the page opens
                client.set_experiment_tag(found_id, key, value)
    return found_id


def experiment_page(tracking: TrackingConfig) -> str:
    """Address of the experiment in MLflow's web interface, in its view for the training of models; of a store that is
    no server, where `mlflow ui` shows it. Raises the errors of `experiment_id_of`.
    """
    # MLflow 3.17 opens an experiment in the view that the browser showed last, at first that for prompts and traces.
    uri = resolve_uri(tracking.uri)
    server = uri.rstrip("/") if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{redacted(server)}/#/experiments/{experiment_id_of(tracking)}/runs?workflowType=machine_learning"


def check_reachable(uri: str) -> None:
    """Raise where no server listens at a database's port, or a file is not a database: MLflow would retry for
    minutes. `IsADirectoryError` is a folder, `PermissionError` a file that may not be written, else the system's."""
    if (file := sqlite_path(uri)) is not None and file.exists():
        if file.is_dir():
            raise IsADirectoryError("it is a folder; name a file in it")
        if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
            raise PermissionError(
                "it or its folder cannot be written; change the permissions, or name another"
            )
        with contextlib.closing(
            sqlite3.connect(file, timeout=_CONNECT_SECONDS, isolation_level=None)
        ) as database:
            try:
                database.execute("PRAGMA schema_version")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):  # another job writes, for which MLflow waits
                    raise
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if parts.hostname is None or kind not in _DATABASE_PORTS or "," in parts.netloc:
        return
    address = (parts.hostname, parts.port or _DATABASE_PORTS[kind])
    socket.create_connection(address, timeout=_CONNECT_SECONDS).close()


def is_away(error: BaseException, uri: str = "") -> bool:
    """Whether this error may pass: a server that does not answer or cannot now, a database that is locked."""
    from mlflow.exceptions import InvalidUrlException, MlflowException

    if isinstance(error, MlflowException) and not isinstance(error, InvalidUrlException):
        status = error.get_http_status_code()
        return status in (408, 429) or status >= 500
    if any(refusal in str(error) for refusal in _REFUSALS):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return sqlite_path(uri) is None and bool(names & {"OSError", "OperationalError", "InterfaceError"})


def is_denied(error: BaseException) -> bool:
    """Whether the store does not know who asks, or does not allow it: a token that has expired."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403)


def reason(error: BaseException) -> str:
    """One line, without secrets. Of a connection that failed only why: MLflow's message is long."""
    line = first_line(error)
    for short in ("Connection refused", "timed out", "Name or service not known", "Connection reset"):
        if short in line:
            return short
    cause = re.search(r"Caused by \w+\(['\"]?(.+?)['\"]?\)\)?$", line)
    return redacted(cause[1] if cause else line)


def unusable(uri: str, error: BaseException) -> ConfigError:
    """The error for a store that cannot be used; it names the store."""
    return ConfigError(
        f"the MLflow store {redacted(uri)} (tracking.uri or MLFLOW_TRACKING_URI) cannot be used: "
        f"{redacted(first_line(error))}"
    )
