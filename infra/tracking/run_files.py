"""Small files of a run (artifacts, in MLflow's words): they come beside its figures, and never keep those waiting."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from infra.tracking.store import reason
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("sllm")


class RunFiles:
    """Sends files to where a store keeps those of its runs: a folder beside an SQLite file, the server, a bucket."""

    def __init__(self, uri: str, before: Callable[[], None], after: Callable[[], None]) -> None:
        """`before` is called before each call, and may raise; `after` when it is answered."""
        self._uri, self._before, self._after = uri, before, after
        self._refused: set[str] = set()

    def send(self, client: "MlflowClient", run_id: str, name: str, text: str) -> None:
        """Store a file; one of the same name is replaced. Raises the store's errors.

        Where files cannot be stored, though the store answers, a warning says so once and all of this run are left out.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if run_id in self._refused:
            return
        place = client.get_run(run_id).info.artifact_uri
        self._before()
        try:
            with tempfile.TemporaryDirectory(prefix="sllm-file-") as folder:
                file = Path(folder, PurePosixPath(name).name)
                file.write_text(text, encoding="utf-8")
                parent = str(PurePosixPath(name).parent)
                repository = get_artifact_repository(place, tracking_uri=self._uri)
                repository.log_artifact(str(file), None if parent == "." else parent)
        except Exception as error:
            if _is_away(error):
                raise
            self._refused.add(run_id)
            log.warning(
                f"warning: MLflow has no files of this run: {redacted(str(place))} cannot be written "
                f"({reason(error)}); its figures are not affected"
            )
        self._after()


def _is_away(error: Exception) -> bool:
    """Whether nobody answered: then it is tried again. An answer, also that of a server in trouble, is a refusal."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "RequestException" in names and getattr(error, "response", None) is None
