import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.lineage import artifact_of


@pytest.fixture
def jobs_run(tmp_path, tracking_uri, monkeypatch):
    """corpus.txt -> shards -> lm -> vae (of lm and shards), each by a job; then change to its folder."""
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text("A text. Another.")

    def make(job, kind, name, inputs, content, force=False):
        def body(run):
            Path(
                run.output,
                {"shards": "rejected.jsonl", "model": "config.json", "report": "evaluation.json"}[kind],
            ).write_text(content)
            return {"dev/bits_per_byte": 1.25, "train/bits_per_byte": 2.5, "seconds": 3.0}

        return run_job(
            job,
            load_config(
                None, [f"tracking.uri={tracking_uri}", "segmenter.name=spacy_v1", "tokenizer.path=gpt2"]
            ),
            sections=["segmenter"],
            inputs=[artifact_of(path) for path in inputs],
            output=name,
            output_kind=kind,
            body=body,
            force=force,
        )

    make("prepare", "shards", "shards", ["corpus.txt"], "s")
    make("train-lm", "model", "lm", ["shards"], "l")
    make("train-vae", "model", "vae", ["shards", "lm"], "v")
    return make


def lineage(*arguments):
    result = CliRunner().invoke(app, ["lineage", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def paths(step, way):
    return [(Path(each["artifact"]["path"]).name, paths(each, way)) for each in step[way]]


BACK = [
    ("shards", [("corpus.txt", [])]),
    ("lm", [("shards", [("corpus.txt", [])])]),
]


def test_back_from_a_model_to_the_corpus(jobs_run):
    step = json.loads(lineage("vae", "--json"))
    assert paths(step, "made_from") == BACK
    assert (step["job"], step["metrics"]["dev/bits_per_byte"]) == ("train-vae", 1.25)
    shards = step["made_from"][0]
    assert (shards["segmenter"], shards["tokenizer"]) == ("spacy_v1", "gpt2")
    assert shards["made_from"][0]["artifact"]["kind"] == "corpus"


def test_the_tree_names_runs_and_what_cut_the_text(jobs_run):
    run_id = artifact_of("vae").run_id
    shown = lineage("vae")
    assert run_id in shown and "segmenter spacy_v1; tokenizer gpt2" in shown
    assert "dev/bits_per_byte 1.25" in shown and "seconds" not in shown
    assert "train/bits_per_byte" not in shown.split("shards")[0]  # of a model, what was held out
    assert shown.count("corpus.txt") == 1 and "(as above)" in shown


def test_back_needs_no_store_while_the_folders_are_there(jobs_run, tracking_uri):
    Path(tracking_uri.removeprefix("sqlite:///")).unlink()
    assert paths(json.loads(lineage("vae", "--json")), "made_from") == BACK


def test_the_store_remembers_what_is_gone_or_replaced(jobs_run):
    shutil.rmtree("shards")
    jobs_run("train-lm", "model", "lm", ["corpus.txt"], "another", force=True)
    step = json.loads(lineage("vae", "--json"))
    assert paths(step, "made_from") == BACK
    shards, lm = step["made_from"]
    assert shards["note"] == "no longer there" and shards["segmenter"] == "spacy_v1"
    assert lm["note"].startswith("replaced since, by run ") and lm["metrics"]["dev/bits_per_byte"] == 1.25
    assert "replaced since" in lineage("vae")


def test_forward_from_a_corpus_file(jobs_run, tracking_uri):
    Path("corpus.txt").rename("moved.txt")
    step = json.loads(lineage("moved.txt", "--json", "--tracking", tracking_uri))
    forward = [("shards", [("lm", [("vae", [])]), ("vae", [])])]
    assert paths(step, "went_into") == forward
    assert "by train-vae" in lineage("moved.txt", "--tracking", tracking_uri)
    assert paths(json.loads(lineage("shards", "--forward", "--json")), "went_into") == forward[0][1]


def test_a_file_that_nothing_was_made_from(jobs_run, tracking_uri):
    Path("other.txt").write_text("other")
    assert json.loads(lineage("other.txt", "--json", "--tracking", tracking_uri))["went_into"] == []


@pytest.mark.parametrize(
    ("path", "message"), [("nowhere", "there is nothing at nowhere"), ("file", "no MLflow store")]
)
def test_what_cannot_be_found_is_one_line(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    result = CliRunner().invoke(app, ["lineage", path])
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not Path("runs").exists()
