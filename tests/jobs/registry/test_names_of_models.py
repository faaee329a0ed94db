"""`models:/NAME@ALIAS` and its like are read wherever the folder of a model is."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.tracking.store import client_of
from jobs.cli import app
from jobs.training import train_lm
from pipeline.lineage import digest_files, read_record
from tests.jobs.registry.conftest import ARTIFACTS, config, log_sllm, sllm


@pytest.fixture(autouse=True)
def in_project(project, monkeypatch):
    monkeypatch.chdir(project)


def test_the_model_in_the_store_has_its_files_and_what_to_search_by(project):
    record = read_record("lm")
    client = client_of(f"sqlite:///{project}/mlflow.db")
    (model,) = client.search_logged_models(["1"], f"source_run_id = '{record.run_id}'")
    assert model.tags["segmenter"] == "punctuation_v1" and model.model_type == "lm"
    names = {one.path for one in client.list_logged_model_artifacts(model.model_id)}
    assert names == {"job.json", *record.files} and "MLmodel" in names
    sizes = sum(one.file_size for one in client.list_logged_model_artifacts(model.model_id))
    assert model.tags["sllm.bytes"] == str(sizes)


def test_evaluation_reads_it_and_gives_it_metrics_on_the_data(project, evaluated):
    record = evaluated
    (given,) = [one for one in record.inputs if one.kind == "model"]
    assert given.run_id == read_record("lm").run_id and given.digest == read_record("lm").output.digest
    client = client_of(f"sqlite:///{project}/mlflow.db")
    (model,) = client.search_logged_models(["1"], f"source_run_id = '{given.run_id}'")
    metrics = {(one.key, one.dataset_name): one.value for one in model.metrics}
    assert metrics["bits_per_byte", "shards"] == pytest.approx(record.metrics["lm/bits_per_byte"])
    (shards,) = [one for one in record.inputs if one.kind == "shards"]
    assert {one.dataset_digest for one in model.metrics} == {shards.digest[:36]}
    run = client.get_run(record.run_id)
    assert [one.model_id for one in run.inputs.model_inputs] == [model.model_id]
    best = client.search_logged_models(["1"], order_by=[{"field_name": "metrics.bits_per_byte"}])
    assert best[0].model_id == model.model_id


def test_training_goes_on_from_it(project):
    record = train_lm.run(
        config(project, "models.lm=models:/lm/1", "output=more", "lm.train.steps=1", "lm.train.seed=7")
    )
    assert read_record("lm").run_id in {one.run_id for one in record.inputs}


def test_export_copies_it(project):
    sllm("export", "models:/lm@champion", "output=copy", f"tracking.uri=sqlite:///{project}/mlflow.db")
    record = read_record("lm")
    assert digest_files("copy", record.files) == record.output.digest == read_record("copy").output.digest
    assert read_record("copy").inputs[0].run_id == record.run_id


def test_generate_reads_it_by_its_name(project, tmp_path):
    """With a sentence-level model, which another command trained."""
    name = log_sllm(tmp_path, f"sqlite:///{project}/mlflow.db")
    store = f"tracking.uri=sqlite:///{project}/mlflow.db"
    shown = sllm(
        "generate", name, store, "launcher=local", "generate.max_sentences=2", "--prompt", "The dog. "
    )
    folder = next(Path().glob("*-generated/*"))
    assert folder.parent.name == f"{name.partition(':/')[2]}-generated"
    kept = json.loads((folder / "generated.json").read_text())
    assert shown.stdout.startswith("The dog. ") and len(kept["sentences"]) >= 1
    (given,) = read_record(folder).inputs
    assert given.kind == "model" and given.digest == read_record(ARTIFACTS / "sllm").output.digest


def test_lineage_of_a_name(project):
    store = f"sqlite:///{project}/mlflow.db"
    shown = sllm("lineage", "models:/lm@champion", "--tracking", store, "--json").stdout
    tree = json.loads(shown)
    assert tree["job"] == "train-lm" and tree["artifact"]["run_id"] == read_record("lm").run_id


def test_promote_says_what_was_replaced(project):
    if not Path("more").is_dir():
        test_training_goes_on_from_it(project)
    said = sllm("promote", "more", "--name", "lm", "--alias", "champion")
    assert "more is now version 2 of lm; champion was version 1" in said.stderr
    as_json = json.loads(sllm("promote", "lm", "--alias", "champion", "--json").stdout)
    assert (as_json["version"], as_json["replaced"], as_json["is_new"]) == ("1", "2", False)
    ran = CliRunner().invoke(app, ["promote", "shards"])
    assert ran.exit_code == 2 or "holds no finished model" in str(ran.exception) + ran.output
