"""Which files a model was really trained on, and what MLflow says of the run: by real jobs on tiny text."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.tracking.store import client_of
from jobs import prepare
from jobs.cli import app
from jobs.training import train_lm
from pipeline.config import load_config

TINY = [
    "trunk.config.hidden_size=16",
    "trunk.config.intermediate_size=16",
    "lm.train.steps=1",
    "launcher=local",
]


def text(name, count):
    return "".join(
        json.dumps({"id": f"{name}{i}", "text": f"{name} text {i}. It goes on."}) + "\n" for i in range(count)
    )


@pytest.fixture(scope="module")
def jobs_run(tmp_path_factory):
    """Shards of files of train, of dev, of both and of neither, and a model; other shards by another segmenter."""
    root = tmp_path_factory.mktemp("lineage")
    uri = f"sqlite:///{root}/mlflow.db"
    for name, count in (("a_both", 40), ("b_unread", 40), ("dev_only", 5)):
        (root / f"{name}.jsonl").write_text(text(name, count))

    def job(module, *overrides):
        return module.run(load_config(None, [f"tracking.uri={uri}", *overrides]))

    shards = [
        "tokenizer.vocab_size=300",
        "data.dev_fraction=0.3",
        "data.max_bytes=1000",
        "prepare.work_unit_bytes=5000",
    ]
    inputs = f"data.inputs=[{root}/a_both.jsonl, {root}/b_unread.jsonl]"
    job(prepare, inputs, f"data.dev_inputs={root}/dev_only.jsonl", f"output={root}/default", *shards)
    job(prepare, inputs, f"output={root}/fixed", "segmenter.name=fixed_v1", *shards)
    for name in ("default", "fixed"):
        job(train_lm, f"shards={root}/{name}", f"output={root}/lm-{name}", *TINY)
    return root, uri


def lineage(jobs_run, *arguments):
    _, uri = jobs_run
    result = CliRunner().invoke(app, ["lineage", *map(str, arguments), "--tracking", uri])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def names(step):
    return {Path(each["artifact"]["path"]).name: names(each) for each in step["went_into"]}


def test_a_file_leads_to_the_models_that_were_trained_on_it(jobs_run):
    root, _ = jobs_run
    forward = {
        name: json.loads(lineage(jobs_run, root / f"{name}.jsonl", "--json"))
        for name in ("a_both", "b_unread", "dev_only")
    }
    assert names(forward["a_both"]) == {"default": {"lm-default": {}}, "fixed": {"lm-fixed": {}}}
    assert names(forward["dev_only"]) == {"default": {}}
    assert names(forward["b_unread"]) == {"default": {}, "fixed": {}}
    (shards,) = (each for each in forward["dev_only"]["went_into"])
    assert shards["documents"] == {"train": 0, "dev": 5}
    assert "dev: 5 documents" in lineage(jobs_run, root / "dev_only.jsonl")
    assert "no document of it" in lineage(jobs_run, root / "b_unread.jsonl")


def test_a_model_leads_back_to_its_files_with_their_splits(jobs_run):
    root, _ = jobs_run
    (shards,) = json.loads(lineage(jobs_run, root / "lm-default", "--json"))["made_from"]
    files = {Path(each["artifact"]["path"]).stem: each["documents"] for each in shards["made_from"]}
    both = files["a_both"]
    assert both["train"] > 0 and both["dev"] > 0
    assert files["b_unread"] == {"train": 0, "dev": 0} and files["dev_only"] == {"train": 0, "dev": 5}


def test_mlflow_finds_models_by_the_segmenter_that_made_their_shards(jobs_run):
    _, uri = jobs_run
    client = client_of(uri)
    experiment = client.get_experiment_by_name("sllm").experiment_id

    def found(filter_string):
        runs = client.search_runs([experiment], filter_string + " and tags.`sllm.job` = 'train-lm'")
        return [Path(run.data.params["output"]).name for run in runs]

    assert found("params.`segmenter.name` = 'fixed_v1'") == ["lm-fixed"]
    assert found("params.`segmenter.name` = 'learned_v2'") == ["lm-default"]
    (run,) = client.search_runs(
        [experiment], "params.`segmenter.name` = 'fixed_v1' and tags.`sllm.job` = 'train-lm'"
    )
    sections = {key.partition(".")[0] for key in run.data.params}
    assert {"lm", "trunk", "shards", "stream", "precision", "tokenizer"} <= sections
    assert not sections & {"vae", "data", "prepare", "generate", "compare", "evaluate"}


def test_verify_tells_whether_everything_upstream_is_what_the_model_was_trained_on(jobs_run, tmp_path):
    """Question 7 of ten; the others are in `test_ten_questions.py`."""
    root, uri = jobs_run
    given = ["lineage", str(root / "lm-fixed"), "--tracking", uri, "--verify"]
    same = CliRunner().invoke(app, given)
    assert same.exit_code == 0 and same.stdout.count("(verified)") == 4, (
        same.stdout
    )  # model, shards, two files
    (shard, *_) = sorted((root / "fixed").glob("train-*.arrow"))
    for file, kind, said in (
        (shard, "shards", f"{shard.name} missing or damaged"),
        (root / "b_unread.jsonl", "corpus", "its SHA-256 is"),
        (root / "lm-fixed" / "config.json", "model", "its SHA-256 is"),
    ):
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        changed = CliRunner().invoke(app, given)
        file.write_bytes(before)
        (line,) = [line for line in changed.stdout.splitlines() if said in line]
        assert changed.exit_code == 1 and kind in line and "changed" in line
    assert CliRunner().invoke(app, given).exit_code == 0


def test_the_record_makes_the_same_model_again(jobs_run):
    """Question 10 of ten: the command that is shown, and what it makes."""
    root, _ = jobs_run
    tree = json.loads(lineage(jobs_run, root / "lm-default", "--json"))
    _, verb, *arguments = shlex.split(tree["again"])
    done = CliRunner().invoke(app, [verb, *arguments])
    assert done.exit_code == 0, done.stderr
    again = root / "lm-default-again"
    assert (again / "model.safetensors").read_bytes() == (
        root / "lm-default" / "model.safetensors"
    ).read_bytes()
    same = CliRunner().invoke(app, ["lineage", str(root / "lm-default"), str(again)])
    assert same.exit_code == 0 and "have the same content" in same.stdout
    reused = CliRunner().invoke(app, [verb, arguments[0]])
    assert reused.exit_code == 0 and "reuse" in reused.stderr


def test_the_store_knows_the_files_without_the_shards(jobs_run):
    root, _ = jobs_run
    shards = root / "default"
    run_id = json.loads((shards / "job.json").read_text())["run_id"]
    hidden = shards.rename(root / "hidden")
    try:
        tree = json.loads(lineage(jobs_run, run_id, "--json"))
        forward = json.loads(lineage(jobs_run, root / "dev_only.jsonl", "--json"))
    finally:
        hidden.rename(shards)
    files = {Path(each["artifact"]["path"]).stem: each["documents"] for each in tree["made_from"]}
    assert files["dev_only"] == {"train": 0, "dev": 5} and files["b_unread"] == {"train": 0, "dev": 0}
    assert names(forward) == {"default": {}}  # no model: it is in dev alone
