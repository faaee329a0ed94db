"""The tags of a run: those to search by, which go from shards to all that is made of them."""

import dataclasses
import json
import socket

import pytest

from infra.tracking.store import client_of
from jobs import evaluate, prepare
from jobs.runner.run_page.tags import corpus_tag, inherited_tags, origin_tags, shards_tags
from pipeline.config import load_config
from pipeline.lineage import Artifact, artifact_of, read_record, write_record
from pipeline.shards.reading import open_shards
from tests.jobs.runner.small_models import config


def found(root, query):
    client = client_of(f"sqlite:///{root}/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    return {run.data.params["output"].rpartition("/")[2] for run in client.search_runs(experiments, query)}


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (["books/*.jsonl.gz"], "books"),
        (["/data/books/**/part-?.txt", "my.txt"], "books + my"),
        (["python-docs:"], "python-docs"),
        (["datasets:wikitext"], "wikitext"),
        (["s3://bucket/news/*.parquet"], "news"),
        (["https://me:hunter2@host/a/novel.jsonl.zst?sig=hunter2"], "novel"),
        (["*.txt"], "corpus"),
        ([], None),
    ],
)
def test_a_corpus_has_the_name_of_its_files(inputs, name):
    given = load_config(None, []).model_copy()
    data = given.data.model_copy(update={"inputs": tuple(inputs)})
    assert corpus_tag(given.model_copy(update={"data": data})).get("corpus") == name


def test_runs_are_found_by_the_segmenter_of_their_shards(root):
    other = config(root, "fixed", "tokenizer.vocab_size=300", "segmenter.name=fixed_v1")
    prepare.run(other)
    made = {"shards", "lm", "vae", "sllm"}
    assert made <= found(root, "tags.segmenter = 'learned_v2'")
    assert found(root, "tags.segmenter = 'fixed_v1'") == {"fixed"}
    assert "fixed" in found(root, "tags.corpus = 'corpus'") and made <= found(root, "tags.corpus = 'corpus'")
    digest = read_record(root / "lm").tags["segmenter.digest"]
    assert made <= found(root, f"tags.`segmenter.digest` = '{digest}'")
    assert "fixed" not in found(root, f"tags.`segmenter.digest` = '{digest}'")
    tokenizer = open_shards(str(root / "shards")).manifest.tokenizer_digest
    assert made <= found(root, f"tags.`tokenizer.digest` = '{tokenizer}'")
    evaluate.run(config(root, "scores", f"shards={root}/shards", f"models.lm={root}/lm"))
    assert "scores" in found(root, "tags.segmenter = 'learned_v2'")


def test_inputs_that_differ_give_both_values(root, tmp_path):
    one, two = artifact_of(root / "lm"), Artifact("model", str(tmp_path), "ab" * 32)
    record = read_record(root / "lm")
    write_record(tmp_path, dataclasses.replace(record, tags={"segmenter": "fixed_v1"}, output=two))
    assert inherited_tags([one, two])["segmenter"] == "learned_v2 + fixed_v1"
    assert inherited_tags([one, one]) == record.tags
    changed = dataclasses.replace(two, digest="cd" * 32)  # another model lies there now
    assert inherited_tags([changed]) == {}


def test_shards_of_earlier_versions_have_the_tags_of_their_manifest(root, tmp_path):
    (tmp_path / "shards").symlink_to(root / "shards")
    shards = Artifact("shards", str(tmp_path / "shards"), "of no record")
    expected = {key: value for key, value in read_record(root / "shards").tags.items() if key != "corpus"}
    assert inherited_tags([shards]) == expected == shards_tags(str(root / "shards"))


def test_who_ran_what_where_are_tags(monkeypatch):
    metadata = {"sllm.user": "ann", "sllm.command": "sllm run x", "job_submission_id": "raysubmit_1"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": metadata}))
    expected = {
        "mlflow.user": "ann",
        "mlflow.source.name": "sllm train-lm",
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": "c0ffee",
        "mlflow.source.git.dirty": "true",
        "sllm.command": "sllm run x",
        "sllm.host": socket.gethostname(),
        "ray.submission_id": "raysubmit_1",
        "version.git": "c0ffee+changes",
    }
    assert expected.items() <= origin_tags("train-lm", {"git": "c0ffee+changes"}).items()
