"""Files that an MLflow server keeps, as a file system: `mlflow+https://HOST/api/2.0/mlflow-artifacts/artifacts/PATH`.

MLflow's own client reads them, so credentials are those of MLflow (`MLFLOW_TRACKING_TOKEN` and the like).
"""

import io
import tempfile
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

ENDPOINT = "/api/2.0/mlflow-artifacts/artifacts/"


class ArtifactFiles(AbstractFileSystem):
    """Read-only. Paths are URLs without `mlflow+`. Raises `FileNotFoundError`, and the errors of MLflow's client."""

    protocol = ("mlflow+http", "mlflow+https")
    root_marker = ""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("mlflow+").rstrip("/")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Entries of a folder, or of one file."""
        path = self._strip_protocol(path)
        parent, _slash, name = path.rpartition("/")
        found = _listed(path)
        if not found:
            found = [one for one in _listed(parent) if one["name"] == f"{parent}/{name}"]
        if not found:
            raise FileNotFoundError(path)
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Kind and size of one file or folder."""
        path = self._strip_protocol(path)
        for one in _listed(path.rpartition("/")[0]):
            if one["name"] == path:
                return one
        raise FileNotFoundError(path)

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        """Copy one file to a local path."""
        path = self._strip_protocol(rpath)
        self.info(path)
        folder, _slash, name = path.rpartition("/")
        _repository(folder)._download_file(name, lpath)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes of one file, or some of them."""
        with tempfile.TemporaryDirectory(prefix="sllm-artifact-") as folder:
            self.get_file(path, f"{folder}/file")
            return Path(folder, "file").read_bytes()[start:end]

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        return io.BytesIO(self.cat_file(path))


def _listed(path: str) -> list[dict[str, Any]]:
    """Files and folders right in a folder; none where there is no such folder."""
    if ENDPOINT not in f"{path}/":
        return []
    return [
        {
            "name": f"{path}/{one.path}",
            "type": "directory" if one.is_dir else "file",
            "size": one.file_size,
        }
        for one in _repository(path).list_artifacts()
    ]


def _repository(path: str) -> Any:
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    return HttpArtifactRepository(path)
