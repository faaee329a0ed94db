"""Models of jobs in MLflow: their files, their names, the registry."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from infra.registry.models import find_model, model_folder
from infra.registry.promotion import model_of_record, promote
from infra.storage import Folder, StorageError
from infra.tracking.logged_models import Clock, upload_model
from infra.tracking.run import start_run
from infra.tracking.store import client_of
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.fetched import local_model
from pipeline.lineage import digest_files, read_record, write_record
from tests.infra.tracking.mlflow_server import mlflow_app

TRAINED = Path(__file__).parents[2] / "artifacts" / "first"


@pytest.fixture
def log(tmp_path, tracking_uri):
    """A copy of a trained model that a run in the store wrote -> its record."""

    def log(kind="sllm", name="sllm", uri=tracking_uri, **options):
        folder = tmp_path / "runs" / name
        shutil.copytree(TRAINED / kind, folder, ignore=shutil.ignore_patterns("checkpoints"))
        record = read_record(folder)
        run = start_run(TrackingConfig(uri=uri, **options), f"train-{kind}", str(folder))
        run.log_start({}, [], {"sllm.job": record.job, "segmenter": "punctuation_v1", "corpus": "books"})
        output = dataclasses.replace(record.output, run_id=run.run_id)
        record = dataclasses.replace(record, run_id=run.run_id, output=output)
        write_record(folder, record)
        run.log_output(record.output, {})
        run.upload_model(record)
        run.end("FINISHED")
        assert run.close()
        return record

    return log


def test_each_name_of_a_model_leads_to_its_files(log, tracking_uri):
    record = log()
    found = find_model(f"runs:/{record.run_id}", tracking_uri)
    assert (found.run_id, found.digest) == (record.run_id, record.output.digest)
    promoted = promote(found, "books", "champion")
    names = [
        f"models:/{found.model_id}",
        f"runs:/{record.run_id}/sllm",
        "models:/books/1",
        "models:/books@champion",
    ]
    for name in [*names, "models:/books/latest"]:
        folder = model_folder(name, tracking_uri)
        assert Path(folder) != Path(record.output.path)
        copy = read_record(folder)
        assert (copy.run_id, copy.output.digest) == (record.run_id, record.output.digest)
        assert digest_files(folder, copy.files) == record.output.digest
        assert find_model(name, tracking_uri).model_id == promoted.model_id


def test_mlflow_loads_the_registered_model(log, tracking_uri, tmp_path, monkeypatch):
    import warnings

    with warnings.catch_warnings(action="ignore"):
        import mlflow.pyfunc
    promote(model_of_record(log(), tracking_uri), alias="champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    loaded = mlflow.pyfunc.load_model("models:/sllm@champion")
    (text,) = loaded.predict([{"prompt": "The dog"}], params={"max_sentences": 2})["text"]
    assert text


def test_a_version_says_what_the_model_is_and_an_alias_moves(log, tracking_uri):
    first, second = log(name="first"), log("lm", name="second")
    one = promote(model_of_record(first, tracking_uri), "books", "champion")
    assert (one.version, one.is_new, one.replaced) == ("1", True, None)
    again = promote(model_of_record(first, tracking_uri), "books", "champion")
    assert (again.version, again.is_new, again.replaced) == ("1", False, None)
    other = promote(model_of_record(second, tracking_uri), "books", "champion")
    assert (other.version, other.replaced, other.uri) == ("2", "1", "models:/books@champion")
    assert find_model("models:/books@champion", tracking_uri).run_id == second.run_id
    version = client_of(tracking_uri).get_model_version("books", "1")
    assert version.tags["segmenter"] == "punctuation_v1" and version.run_id == first.run_id
    assert version.description == "Trained on books, cut by punctuation_v1"
    model = client_of(tracking_uri).get_logged_model(one.model_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "books", "version": 1}]
    assert model.status == "READY" and model.params["model_type"] == "sllm"


def test_the_files_in_mlflow_are_compared_with_the_digest(log, tracking_uri):
    record = log()
    name = f"runs:/{record.run_id}"
    folder = Path(model_folder(name, tracking_uri))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged: its files have not the digest"):
        model_folder(name, tracking_uri)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="is not there on this machine"):
        model_folder(name, tracking_uri)


def test_a_reference_leads_to_the_folder_and_promotion_uploads_it(log, tracking_uri):
    record = log(upload_models=False)
    name = f"runs:/{record.run_id}"
    assert model_folder(name, tracking_uri) == record.output.path
    promote(find_model(name, tracking_uri), "books")
    shutil.rmtree(record.output.path)
    copy = read_record(model_folder("models:/books/1", tracking_uri))
    assert copy.output.digest == record.output.digest


def test_a_reference_to_a_folder_that_is_gone_says_so(log, tracking_uri):
    record = log(upload_models=False)
    found = find_model(f"runs:/{record.run_id}", tracking_uri)
    shutil.rmtree(record.output.path)
    with pytest.raises(ModelError, match="is gone, or holds another model"):
        model_folder(f"runs:/{record.run_id}", tracking_uri)
    with pytest.raises(ModelError, match="is gone, and MLflow has no copy"):
        promote(found, "books")


def test_an_upload_that_was_cut_goes_on(log, tracking_uri, monkeypatch, caplog):
    record = log(upload_models=False)
    found = find_model(f"runs:/{record.run_id}", tracking_uri)
    client = client_of(tracking_uri)
    given = (tracking_uri, found.model_id, record.output.path, record.output.digest, record.run_id, Clock())
    sent = []
    send = type(client).log_model_artifact

    def cut(self, model_id, path, *rest):
        sent.append(Path(path).name)
        if len(sent) == 3:
            raise OSError("no space")
        send(self, model_id, path, *rest)

    monkeypatch.setattr(type(client), "log_model_artifact", cut)
    with pytest.raises(StorageError, match="it keeps no files: no space"):
        upload_model(client, *given)
    assert client.get_logged_model(found.model_id).tags.get("sllm.bytes") is None
    first = sent[:2]
    upload_model(client, *given)
    assert sent[-1] == "MLmodel" and not set(first) & set(sent[3:])
    number = len(sent)
    upload_model(client, *given)
    assert len(sent) == number  # all is there
    assert model_folder(f"models:/{found.model_id}", tracking_uri) != record.output.path


def test_a_large_file_has_the_time_that_it_needs(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    clock = Clock()
    for size, seconds in ((1_000_000, 10), (100_000_000, 101)):
        with clock.sending(size):
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == str(seconds)
            assert clock.allowed_now == size / 1e6
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10" and clock.allowed_now == 0
    assert clock.allowed_before == 101


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("models:/nothing/1", "no such model"),
        ("models:/nothing@champion", "no such model"),
        ("models:/nothing/latest", "no registered model 'nothing'"),
        ("models:/nothing", "names no model: write models:/NAME/VERSION"),
        (f"models:/m-{'0' * 32}", "no such model"),
        (f"runs:/{'0' * 32}", "no such model"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(tracking_uri, name, said):
    with pytest.raises(ModelError, match=said) as caught:
        model_folder(name, tracking_uri)
    assert "\n" not in str(caught.value)


def test_a_store_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ModelError, match="there is no MLflow store at"):
        find_model("models:/books/1", f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ConfigError, match="cannot be used"):
        find_model("models:/books/1", "http://127.0.0.1:9")


def test_where_a_server_takes_no_files_the_run_ends_and_the_model_is_a_reference(
    log, empty_store, tmp_path, caplog
):
    store = shutil.copy(empty_store, tmp_path / "server.db")
    with mlflow_app(f"sqlite:///{store}") as port:
        uri = f"http://127.0.0.1:{port}"
        record = log(uri=uri)
        assert client_of(uri).get_run(record.run_id).info.status == "FINISHED"
        assert model_folder(f"runs:/{record.run_id}", uri) == record.output.path
    assert "MLflow refused a part of this job (upload): it keeps no files" in caplog.text


def test_a_server_keeps_the_files_and_gives_them_to_any_machine(log, empty_store, tmp_path):
    store = shutil.copy(empty_store, tmp_path / "server.db")
    with mlflow_app(f"sqlite:///{store}", tmp_path / "kept") as port:
        uri = f"http://127.0.0.1:{port}"
        record = log(uri=uri)
        promote(find_model(f"runs:/{record.run_id}", uri), "books", "champion")
        shutil.rmtree(record.output.path)
        url = model_folder("models:/books@champion", uri)
        assert url.startswith(f"mlflow+http://127.0.0.1:{port}/")
        assert {"job.json", "MLmodel", *record.files} == set(Folder(url).names()) - {
            "requirements.txt",
            "python_env.yaml",
            "input_example.json",
            "serving_input_example.json",
        }
        copy = local_model(url, str(tmp_path / "cache"))
        assert digest_files(copy, record.files) == record.output.digest
        (kept,) = (tmp_path / "kept").rglob("model.safetensors")
        kept.write_bytes(b"other")
        with pytest.raises(ModelError, match="is damaged"):
            local_model(url, str(tmp_path / "elsewhere"))
