"""`models:/NAME@ALIAS` and its like are read wherever the folder of a model is."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.tracking.store import client_of
from jobs import evaluate
from jobs.cli import app
from jobs.training import train_lm
from pipeline.config import load_config
from pipeline.lineage import digest_files, read_record

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "first"
OVERRIDES = ["trunk.config.hidden_size=16", "trunk.config.intermediate_size=32", "lm.loss_tokens=32"]


@pytest.fixture(scope="module")
def project(tmp_path_factory, empty_store):
    """A folder with shards, and a small token-level model that is `models:/lm@champion` of the store in it."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("project")
        shutil.copytree(ARTIFACTS / "shards", root / "shards")
        shutil.copy(empty_store, root / "mlflow.db")
        patch.chdir(root)
        train_lm.run(config(root, "output=lm", "lm.train.steps=2"))
        assert sllm("promote", "lm", "--alias", "champion").stdout.strip() == "models:/lm@champion"
        yield root


def config(root, *overrides):
    given = [f"tracking.uri=sqlite:///{root}/mlflow.db", f"shards={root}/shards", "launcher=local"]
    return load_config(str(ARTIFACTS / "config.yaml"), [*OVERRIDES, *given, *overrides])


def sllm(*arguments):
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran


def test_the_model_in_the_store_has_its_files_and_what_to_search_by(project):
    record = read_record("lm")
    client = client_of(f"sqlite:///{project}/mlflow.db")
    (model,) = client.search_logged_models(["1"], f"source_run_id = '{record.run_id}'")
    assert model.tags["segmenter"] == "punctuation_v1" and model.model_type == "lm"
    names = {one.path for one in client.list_logged_model_artifacts(model.model_id)}
    assert names == {"job.json", *record.files} and "MLmodel" in names
    sizes = sum(one.file_size for one in client.list_logged_model_artifacts(model.model_id))
    assert model.tags["sllm.bytes"] == str(sizes)


def test_evaluation_reads_it_and_gives_it_metrics_on_the_data(project):
    record = evaluate.run(config(project, "models.lm=models:/lm@champion", "output=scores"))
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
