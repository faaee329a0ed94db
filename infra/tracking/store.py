"""The MLflow store: its address, a client, the experiment, and whether it can be reached.

`mlflow` itself is imported where it is needed, never at the top: it takes seconds.
"""

import contextlib
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, first_line
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI, DEFAULT_EXPERIMENT = "sqlite:///runs/mlflow.db", "sllm"
_SQLITE = "sqlite:///"
_DATABASE_PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306}
_CONNECT_SECONDS = 5.0


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
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (file := sqlite_path(uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def check_server(tracking: TrackingConfig) -> None:
    """As `check_store`, for a store on a server: it makes nothing on this machine."""
    if urlsplit(resolve_uri(tracking.uri)).hostname is not None:
        check_store(tracking)


def check_store(tracking: TrackingConfig) -> None:
    """Open the store before the job writes anything. Raises `ConfigError` where it cannot be used."""
    experiment_id_of(tracking)


def experiment_id_of(tracking: TrackingConfig) -> str:
    """The experiment, created if it is missing; the artifacts of an SQLite store are beside its file.

    Raises `ConfigError` where the store cannot be used, or the experiment is deleted.
    """
    uri, name = resolve_uri(tracking.uri), resolve_experiment(tracking.experiment)
    with usable_store(uri):
        _check_reachable(uri)
        client = client_of(uri)
        found = client.get_experiment_by_name(name)
        file = sqlite_path(uri)
        beside = None if file is None else (file.parent / "artifacts").as_uri()
        if found is None:
            made: str = client.create_experiment(name, artifact_location=beside)
            return made
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment {name!r} is deleted: bring it back with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another one in tracking.experiment"
        )
    found_id: str = found.experiment_id
    return found_id


def _check_reachable(uri: str) -> None:
    """Raise where no server listens at a database's port, or a file is not a database: MLflow would retry for
    minutes."""
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


@contextlib.contextmanager
def usable_store(uri: str) -> Iterator[None]:
    """A context in which errors of the store become a `ConfigError` that names the store."""
    try:
        yield
    except Exception as error:
        raise ConfigError(
            f"the MLflow store {redacted(uri)} (tracking.uri or MLFLOW_TRACKING_URI) cannot be used: "
            f"{redacted(first_line(error))}"
        ) from error
