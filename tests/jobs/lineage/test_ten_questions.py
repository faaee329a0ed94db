"""Ten questions that a team asks about its results, each answered by one command; in SQLite and in PostgreSQL.

Question 7, and question 10 with real weights, are in `test_corpus_files.py`.
"""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.provenance import user_name
from infra.storage import Folder, StorageError
from infra.tracking.corpus_files import FILE_LIST, CorpusFile, list_of
from infra.tracking.run import start_run
from infra.tracking.search import RunSearch
from infra.tracking.store import client_of
from jobs.cli import app
from jobs.lineage.walk import walk_back, walk_forward
from jobs.runner.execution import run_job
from jobs.runner.output.folder import artifact_at, record_at
from pipeline.config import TrackingConfig, load_config
from pipeline.lineage import Artifact, artifact_of, identity_digest
from tests.infra.tracking.mlflow_server import mlflow_app

FILES = {"shards": "rejected.jsonl", "model": "config.json", "report": "evaluation.json"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request, tmp_path_factory):
    """The address of a store: a file, and a server on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    else:
        artifacts = tmp_path_factory.mktemp("artifacts")
        with mlflow_app(request.getfixturevalue("postgres_uri"), artifacts) as port:
            yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def root(store, tmp_path_factory):
    """Two corpora of two files, cut by two segmenters, with a model, a report and a model on top of each."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RAY_JOB_SUBMISSION_ID", "raysubmit_1")
        patch.setenv("SLLM_GIT_COMMIT", "c0ffee" * 6)
        Path("corpus").mkdir()
        for name in "ab":
            Path(f"corpus/{name}.txt").write_text(f"{folder} {name}")
        for segmenter, bits in (("punctuation_v1", 2.25), ("spacy_v1", 2.5)):
            inputs = ["corpus/a.txt", "corpus/b.txt"]
            make(store, "prepare", "shards", f"shards-{segmenter}", inputs, [f"segmenter.name={segmenter}"])
            make(store, "train-lm", "model", f"lm-{segmenter}", [f"shards-{segmenter}"], ["lm.train.steps=7"])
            read = [f"shards-{segmenter}", f"lm-{segmenter}"]
            scores = {
                "lm/bits_per_byte": bits,
                "unigram/bits_per_byte": 1.0,
                "lm/documents": 5,
                "lm/bytes": 99,
            }
            make(store, "evaluate", "report", f"report-{segmenter}", read, [], scores)
            make(store, "train-vae", "model", f"vae-{segmenter}", read, [])
    return folder


def make(store, job, kind, output, inputs, overrides, metrics=None):
    config = load_config(
        None, [f"tracking.uri={store}", f"tracking.experiment={Path.cwd().name}", *overrides]
    )
    config = config.model_copy(update={"output": output})
    given = [artifact_of(path) for path in inputs]
    if kind == "shards":
        given.append(Artifact("segmenter", config.segmenter.name, identity_digest(config.segmenter.name)))

    def body(run):
        Folder(run.output).write(FILES[kind], f"{Path.cwd()} {output}".encode())
        if kind == "shards":
            files = [CorpusFile(one.path, one.digest, 1, {"train": 1, "dev": 0}) for one in given[:-1]]
            run.log_text(FILE_LIST, list_of(files))
        return metrics or {}

    sections = {"shards": ["segmenter"], "model": ["lm"]}.get(kind, ["evaluate"])
    return run_job(
        job,
        config,
        sections=sections,
        inputs=given,
        output=output,
        output_kind=kind,
        body=body,
        beside=["data"],
    )


@pytest.fixture
def ask(store, root, monkeypatch):
    """`sllm lineage` in the working folder; the tree where `--json` is given."""
    monkeypatch.chdir(root)

    def ask(*arguments, exit_code=0):
        given = ["lineage", *arguments, "--tracking", store]
        result = CliRunner().invoke(app, given, catch_exceptions=False)
        assert result.exit_code == exit_code, result.stderr
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    return ask


def names(nodes, way, kind):
    """Names of all artifacts of a kind on a way."""
    found = {Path(node["artifact"]["path"]).name for node in nodes if node["artifact"]["kind"] == kind}
    return found.union(*(names(node[way], way, kind) for node in nodes))


def run_of(name):
    return artifact_of(name).run_id


@pytest.mark.parametrize("by", [str, run_of])
def test_1_which_corpus_files_made_this_model(ask, by):
    tree = ask(by("vae-spacy_v1"), "--json")
    assert names([tree], "made_from", "corpus") == {"a.txt", "b.txt"}


def test_2_which_models_saw_this_file(ask, store):
    models = {f"{kind}-{segmenter}" for kind in ("lm", "vae") for segmenter in ("punctuation_v1", "spacy_v1")}
    assert names([ask("corpus/a.txt", "--json")], "went_into", "model") == models
    search = RunSearch(store)
    walk_forward(artifact_of("corpus/a.txt"), search)
    assert (
        search.searches <= 8
    )  # five for the file, then one per level: shards; models and reports; models of models


def test_3_which_segmenter_made_its_shards(ask, store):
    digest = identity_digest("spacy_v1")
    assert f"segmenter spacy_v1 {digest[:12]}; tokenizer" in ask("vae-spacy_v1")
    (shards, _) = ask(run_of("vae-spacy_v1"), "--json")["made_from"]
    assert (shards["segmenter"], shards["segmenter_digest"]) == ("spacy_v1", digest)


def test_4_what_differs_upstream_of_two(ask):
    found = ask("vae-punctuation_v1", "vae-spacy_v1", "--json")
    assert [(each["what"], each["a"].split()[0], each["b"].split()[0]) for each in found] == [
        ("prepare: segmenter.name", "punctuation_v1", "spacy_v1"),
        ("prepare: segmenter", "punctuation_v1", "spacy_v1"),
    ]
    assert "segmenter.name" in ask(run_of("vae-punctuation_v1"), "vae-spacy_v1")
    assert "have the same content" in ask("lm-spacy_v1", run_of("lm-spacy_v1"))
    assert ask("vae-punctuation_v1", "vae-spacy_v1", "--html", "differences.html") == ""
    assert "prepare: segmenter.name" in Path("differences.html").read_text()


@pytest.mark.parametrize("corpus", ["corpus", "corpus/*.txt", "corpus/b.txt"])
def test_5_which_segmenter_won_on_this_corpus(ask, corpus):
    scores = ask(corpus, "--json")["scores"]
    assert [(one["segmenter"], one["model"], one["bits_per_byte"]) for one in scores] == [
        ("punctuation_v1", "lm", 2.25),
        ("spacy_v1", "lm", 2.5),
    ]
    assert "the same 5 dev documents, 99 bytes" in ask(corpus)


def test_6_which_commit_and_package_versions(ask):
    shown = ask("lm-spacy_v1")
    assert f"commit {'c0ffee' * 6}" in shown and "torch 2" in shown and "mlflow 3" in shown
    versions = ask(run_of("lm-spacy_v1"), "--json")["versions"]
    assert versions["git"] == "c0ffee" * 6 and versions["torch"]


def test_8_who_ran_it_when_where_as_which_ray_job(ask):
    for named in ("lm-spacy_v1", run_of("lm-spacy_v1")):
        tree = ask(named, "--json")
        assert tree["user"] == user_name() and tree["host"] and tree["ray_job"] == "raysubmit_1"
        assert tree["started"] <= tree["finished"] and tree["command"]
    assert f"{tree['user']}@{tree['host']}, Ray job raysubmit_1" in ask("lm-spacy_v1")


def test_9_which_runs_are_stale_since_a_file_changed(ask):
    file = Path("corpus/a.txt")
    before = file.read_bytes()
    try:
        file.write_text("other text")
        tree = ask("corpus/a.txt", "--json")
        assert tree["went_into"] == []
        assert names(tree["stale"], "went_into", "shards") == {"shards-punctuation_v1", "shards-spacy_v1"}
        assert len(names(tree["stale"], "went_into", "model")) == 4
        assert "stale: made from other content" in ask("corpus/a.txt")
        file.unlink()
        gone = ask("corpus/a.txt", "--json")
        assert names(gone["stale"], "went_into", "model") == names(tree["stale"], "went_into", "model")
    finally:
        file.write_bytes(before)
    assert ask("corpus/a.txt", "--json")["stale"] == []


def test_10_the_command_that_makes_it_again(ask):
    for named in ("lm-spacy_v1", run_of("lm-spacy_v1")):
        program, verb, file, output = shlex.split(ask(named, "--json")["again"])
        assert (program, verb, output) == ("sllm", "train-lm", "output=lm-spacy_v1-again")
        config = load_config(file, [output])
        assert config.lm.train.steps == 7 and config.output == "lm-spacy_v1-again"


def test_a_registered_model_is_found_by_version_and_alias(ask, store):
    client = client_of(store)
    name = f"of-{Path.cwd().name}"
    client.create_registered_model(name)
    run_id = run_of("lm-spacy_v1")
    model_id = client.get_run(run_id).data.tags["sllm.output.model_id"]
    client.create_model_version(name, f"s3://models/{model_id}", run_id)
    client.set_registered_model_alias(name, "champion", "1")
    for given in (f"models:/{name}/1", f"{name}/1", f"models:/{name}@champion", f"{name}@champion"):
        assert ask(given, "--json")["artifact"]["run_id"] == run_id
    assert ask(f"models:/{model_id}", "--json")["artifact"]["run_id"] == run_id
    ask(f"{name}@nobody", exit_code=2)
    ask("f" * 32, exit_code=2)


def test_the_store_alone_answers_with_one_search_per_level(ask, store, root, monkeypatch):
    """As on another machine, where the folders are not."""
    run_id = run_of("vae-spacy_v1")
    searches = []
    search = RunSearch._search
    monkeypatch.setattr(
        RunSearch, "_search", lambda self, given: searches.append(given) or search(self, given)
    )
    hidden = root.rename(root.with_name(f"{root.name}-hidden"))
    try:
        tree = ask_elsewhere(store, run_id, root.parent, monkeypatch)
        assert names([tree], "made_from", "model") == {"vae-spacy_v1", "lm-spacy_v1"}
        assert names([tree], "made_from", "corpus") == {"a.txt, b.txt"} or names(
            [tree], "made_from", "corpus"
        )
        assert len(searches) <= 4  # the run; shards and lm; shards of lm
    finally:
        hidden.rename(root)


def ask_elsewhere(store, given, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["lineage", given, "--json", "--tracking", store])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_store_that_is_away_does_not_hide_what_is_beside_the_artifacts(root, monkeypatch):
    monkeypatch.chdir(root)
    tree = walk_back(artifact_of("vae-spacy_v1"), "sqlite:///nowhere.db")
    assert [each.job for each in tree.made_from] == ["prepare", "train-lm"]
    assert not Path("nowhere.db").exists()


def test_a_run_of_several_jobs_and_one_that_failed(ask, store):
    client = client_of(store)
    runs = [run_of("lm-punctuation_v1"), run_of("vae-punctuation_v1")]
    parent = client.create_run(client.get_run(runs[0]).info.experiment_id).info.run_id
    for run_id in runs:
        client.set_tag(run_id, "mlflow.parentRunId", parent)
    tree = ask(parent, "--json")
    assert tree["artifact"]["kind"] == "run"
    assert {each["artifact"]["run_id"] for each in tree["made_from"]} == set(runs)
    tracking = TrackingConfig(uri=store, experiment=Path.cwd().name)
    failed = start_run(tracking, "failed", "lm-failed")
    failed.log_start({"output": "lm-failed"}, [artifact_of("shards-spacy_v1")], {"sllm.job": "train-lm"})
    failed.end("FAILED", RuntimeError("no memory"))
    assert failed.close()
    tree = ask(failed.run_id, "--json")
    assert tree["note"] == "failed: RuntimeError: no memory" and tree["job"] == "train-lm"
    assert names([tree], "made_from", "corpus") == {"a.txt", "b.txt"}


def test_a_store_that_was_written_before_corpora_were_one_dataset(ask, store):
    corpus, shards = (
        Artifact("corpus", "/old/a.jsonl", "0a" * 32),
        Artifact("shards", "/old/shards", "0b" * 32),
    )
    for output, given, kind in (("old-shards", corpus, "shards"), ("old-lm", shards, "model")):
        run = start_run(TrackingConfig(uri=store, experiment=Path.cwd().name), output, output)
        inputs = [dataclasses.asdict(given)]
        run._sender.add({"do": "start", "params": {}, "inputs": inputs, "tags": {"sllm.job": output}})
        run.log_output(shards if kind == "shards" else Artifact(kind, "/old/lm", "0c" * 32), {})
        run.end("FINISHED")
        assert run.close()
    tree = walk_forward(corpus, RunSearch(store))
    assert [(each.job, [one.job for one in each.went_into]) for each in tree.went_into] == [
        ("old-shards", ["old-lm"])
    ]
    assert names([ask(run.run_id, "--json")], "made_from", "shards") == {"shards"}


def test_shards_at_an_object_store_do_not_end_the_walk(ask, store, s3, monkeypatch):
    bucket = f"walk-{Path.cwd().name}"
    s3.mkdir(bucket)
    url = f"s3://{bucket}/shards"
    make(store, "prepare", "shards", url, ["corpus/a.txt"], ["segmenter.name=spacy_v1"])
    config = load_config(None, [f"tracking.uri={store}", f"tracking.experiment={Path.cwd().name}"])

    def body(run):
        Path(run.output, "config.json").write_text("on a bucket")
        return {}

    run_job("train-lm", config, sections=["lm"], inputs=[artifact_at(url)], output="lm-on-bucket",
            output_kind="model", body=body)  # fmt: skip

    def away(path):
        if path == url:
            raise StorageError("no answer")
        return record_at(path)

    changes = [
        lambda: None,
        lambda: s3.rm(f"{bucket}/shards/job.json"),
        lambda: monkeypatch.setattr("jobs.lineage.records.record_at", away),
    ]
    for change, note in zip(changes, [None, "no longer there", "cannot be reached"], strict=True):
        change()
        tree = ask("lm-on-bucket", "--json")
        assert names([tree], "made_from", "corpus") == {"a.txt"}
        (shards,) = tree["made_from"]
        assert (shards["artifact"]["path"], shards["job"], shards["segmenter"]) == (
            url,
            "prepare",
            "spacy_v1",
        )
        assert shards["note"] == note
