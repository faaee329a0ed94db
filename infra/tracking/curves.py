"""The metrics of a run over its steps, from the MLflow store and from what waits to be sent there."""

import json
from collections.abc import Iterable, Sequence

from infra.storage import Folder, StorageError
from infra.tracking.journal import JOURNAL_NAME, Operation
from infra.tracking.store import check_reachable, client_of, resolve_uri
from pipeline.errors import ConfigError

Curve = list[tuple[int, float]]
"""Step and value, by step."""


class Curves:
    """Reads the metrics of runs from one store; after its first failure it is not asked again."""

    def __init__(self, uri: str | None) -> None:
        self._uri = resolve_uri(uri)
        self.is_away = False
        """Whether the store did not answer."""

    def of(self, run_id: str, output: str, names: Sequence[str]) -> dict[str, Curve]:
        """The curves with these names of the run that wrote `output`; those without points are left out."""
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for name in names if run_id else ():
            for step, value in self._stored(run_id, name):
                found[name][step] = value
        for operation in _waiting(output):
            for name in names:
                if operation.get("step") is not None and name in operation.get("values", {}):
                    found[name][operation["step"]] = operation["values"][name]
        return {name: sorted(points.items()) for name, points in found.items() if points}

    def _stored(self, run_id: str, name: str) -> Iterable[tuple[int, float]]:
        from mlflow.exceptions import MlflowException

        if self.is_away:
            return []
        try:
            check_reachable(self._uri)
            history = client_of(self._uri).get_metric_history(run_id, name)
        except MlflowException as error:
            self.is_away = error.error_code != "RESOURCE_DOES_NOT_EXIST"
            return []
        except (ConfigError, OSError):
            self.is_away = True
            return []
        return [(metric.step, metric.value) for metric in history]


def _waiting(output: str) -> list[Operation]:
    """Operations on metrics in the journal beside an output."""
    try:
        content = Folder(output).read(JOURNAL_NAME) or b""
    except StorageError:
        return []
    found: list[Operation] = []
    for line in content.splitlines():
        try:
            operation = json.loads(line)
        except ValueError:
            continue  # the end of it is being written
        if operation.get("do") == "create":
            found.clear()  # of an earlier run
        elif operation.get("do") == "metrics":
            found.append(operation)
    return found
