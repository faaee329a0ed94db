"""The LoggedModel of a job's model: its entry beside the run, its files, and metrics of it on other data."""

import contextlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.mlmodel.files import MLMODEL_NAME, mlmodel_files
from infra.storage import Folder, StorageError
from infra.tracking.store import reason
from pipeline.lineage import Artifact, JobRecord, parse_record, record_text
from pipeline.output_files import RECORD_NAME
from pipeline.redaction import redacted
from pipeline.unique_keys import read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

log = logging.getLogger("sllm")

DIGEST_TAG, PATH_TAG, KIND_TAG = "sllm.output.digest", "sllm.output.path", "sllm.output.kind"
MODEL_TAG = "sllm.output.model_id"
"""Of the run: the id of its LoggedModel."""
EXTERNAL_TAG = "mlflow.model.isExternal"
"""MLflow's own tag of a model whose files are elsewhere."""
BYTES_TAG = "sllm.bytes"
"""Size of the files that MLflow has of a model."""
SLOWEST_BYTES_PER_SECOND = 1e6
"""An upload that is slower is given up."""
PASSED_ON = ("segmenter", "segmenter.digest", "segmenter.options", "tokenizer.digest", "corpus")
"""Tags of the run that its model has too, and a version of a registered model."""
_OF_PAGE = (
    *("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit"),
    "mlflow.note.content",
)
"""Tags of the run that the page of its model shows: who, from what, which code, and the description."""
_PARAM_CHARACTERS = 250


def create_model(client: "MlflowClient", run: "Run", output: Artifact, is_uploaded: bool) -> "LoggedModel":
    """The LoggedModel of a run's output, made where the run has none with this digest.

    Without `is_uploaded` it is ready: a reference to a folder elsewhere.
    """
    tags = {KIND_TAG: output.kind, PATH_TAG: output.path, DIGEST_TAG: output.digest}
    made = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    model = next((one for one in made if tags.items() <= one.tags.items()), None)
    if model is None:
        passed_on = {name: run.data.tags[name] for name in (*PASSED_ON, *_OF_PAGE) if name in run.data.tags}
        model = client.create_logged_model(
            run.info.experiment_id,
            name=re.sub(r"[^\w-]+", "-", Path(output.path).name) or "model",
            source_run_id=run.info.run_id,
            tags={**tags, **passed_on, **({} if is_uploaded else {EXTERNAL_TAG: "true"})},
            params=_params(output.path),
            model_type=run.data.tags.get("sllm.job", "").removeprefix("train-") or None,
        )
    if not is_uploaded:
        client.finalize_logged_model(model.model_id, "READY")
    return model


def upload_model(
    client: "MlflowClient", uri: str, model_id: str, output: str, digest: str, run_id: str, clock: "Clock"
) -> int:
    """Give MLflow the files of the model with this digest in `output` (a path or URL), and its `job.json` -> their
    bytes. Files that MLflow has are left out.

    Where the folder is gone, or holds another model by now, the model becomes a reference. `MLmodel` comes last: a
    model without it cannot be loaded. Raises the store's errors, and `StorageError` where the store answers, but takes
    no files.
    """
    model = client.get_logged_model(model_id)
    if BYTES_TAG in model.tags:
        return int(model.tags[BYTES_TAG])
    folder = Folder(output)
    content = folder.read(RECORD_NAME)
    record = None if content is None else parse_record(content, redacted(folder.url))
    if record is None or record.output.digest != digest:
        log.warning(f"warning: {redacted(output)} is gone or replaced: MLflow has no files of this model")
        keep_reference(client, model_id)
        return 0
    _check_location(uri, model)
    try:
        total = _send(client, model_id, folder, record, run_id, clock)
    except Exception as error:
        client.get_logged_model(model_id)  # raises where the whole store is away
        raise StorageError(f"it keeps no files: {reason(error)}") from error
    client.set_logged_model_tags(model_id, {BYTES_TAG: str(total), EXTERNAL_TAG: "false"})
    client.finalize_logged_model(model_id, "READY")
    return total


def _send(
    client: "MlflowClient", model_id: str, folder: Folder, record: JobRecord, run_id: str, clock: "Clock"
) -> int:
    there = {one.path: one.file_size for one in client.list_logged_model_artifacts(model_id)}
    total = 0
    with tempfile.TemporaryDirectory(prefix="sllm-upload-") as temporary:
        for name, file in _files(folder, record, run_id, Path(temporary)):
            size = file.stat().st_size
            total += size
            if there.get(name) != size:
                with clock.sending(size):
                    client.log_model_artifact(model_id, str(file), os.path.dirname(name) or None)  # noqa: PTH120
            if file.is_relative_to(temporary):
                file.unlink()
    return total


def _check_location(uri: str, model: "LoggedModel") -> None:
    """Raise `StorageError` where a server keeps files in a folder that only its own machine has: MLflow's client would
    make a folder of that name here."""
    location = urlsplit(model.artifact_location)
    if not uri.startswith("http") or location.scheme not in ("", "file"):
        return
    of_experiment = Path(location.path.removesuffix(f"/models/{model.model_id}/artifacts"))
    above = of_experiment.parent
    if not of_experiment.is_dir() and (not above.is_dir() or above == above.parent):
        raise StorageError(
            f"it keeps files in {of_experiment} of its own machine: let the server serve artifacts"
        )


def keep_reference(client: "MlflowClient", model_id: str) -> None:
    """Make a model a reference to its folder."""
    client.set_logged_model_tags(model_id, {EXTERNAL_TAG: "true"})
    client.finalize_logged_model(model_id, "READY")


class Clock:
    """How long an upload may take: no answer comes before the whole file is there."""

    def __init__(self) -> None:
        self.allowed_now = 0.0
        """Seconds for the file that is being sent."""
        self.allowed_before = 0.0
        """Seconds for the files before it."""

    @contextlib.contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """A context in which a file of this size (bytes) is sent; MLflow waits as long for the answer."""
        variable = "MLFLOW_HTTP_REQUEST_TIMEOUT"
        before = os.environ.get(variable)
        self.allowed_now = size / SLOWEST_BYTES_PER_SECOND
        if before is not None and self.allowed_now > float(before):
            os.environ[variable] = str(int(self.allowed_now) + 1)
        try:
            yield
        finally:
            self.allowed_before += self.allowed_now
            self.allowed_now = 0.0
            if before is not None:
                os.environ[variable] = before


def _files(folder: Folder, record: JobRecord, run_id: str, temporary: Path) -> Iterator[tuple[str, Path]]:
    """Name and local copy of each file, one after the other, `MLmodel` last."""
    if not record.run_id:  # it was not known yet when the record was written
        output = Artifact(record.output.kind, record.output.path, record.output.digest, run_id)
        record = JobRecord(**{**vars(record), "run_id": run_id, "output": output})
    written = {RECORD_NAME: record_text(record).encode()}
    if MLMODEL_NAME not in record.files:  # an earlier version of sllm trained it
        written |= mlmodel_files(folder)
    for name in sorted({*record.files, *written}, key=lambda name: (name == MLMODEL_NAME, name)):
        here = Path(folder.url, name)
        if name not in written and here.is_file():
            yield name, here
            continue
        copy = temporary / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if name in written:
            copy.write_bytes(written[name])
        else:
            folder.get(name, copy)
        yield name, copy


def _params(output: str) -> dict[str, str]:
    """Architecture of the model, from its `config.json`, for the page of the model."""
    try:
        content = Folder(output).read("config.json")
        tree = {} if content is None else read_json(content, "config.json")
    except (OSError, ValueError):
        return {}
    flat = {
        f"{part}.{key}" if part else key: value
        for part, values in {
            "": tree,
            "vae": tree.get("vae_config"),
            "trunk": tree.get("trunk_config"),
        }.items()
        for key, value in (values or {}).items()
    }
    shown = {key: value for key, value in flat.items() if _is_shown(key, value)}
    return {key: (value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()}


def _is_shown(key: str, value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _PARAM_CHARACTERS
    return isinstance(value, bool | int | float) and not key.endswith("_token_id")


def model_metrics(
    model_id: str, values: Mapping[str, float], milliseconds: int, dataset: tuple[str, str]
) -> list[Any]:
    """MLflow's entities for metrics of a model on a dataset (name and digest, as the run logs it)."""
    from mlflow.entities import Metric

    name, digest = dataset
    return [
        Metric(key, value, milliseconds, 0, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, value in values.items()
    ]
