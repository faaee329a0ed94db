"""The whole path in a bucket: every job writes there and reads there, and nothing else is written on this machine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.storage import Folder
from jobs.cli import app
from jobs.pages.run import REPORT_NAME
from jobs.reports.evaluation import read_report
from jobs.runner.output.folder import record_at
from jobs.verbs import STEPS, steps_of

TRAIN = "{steps: 2, micro_batch_tokens: 256, micro_batches_per_step: 1, checkpoint_every: 1}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "
RUN = "s3://stores/run"


def sllm(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def finished(s3: Any, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The arguments of a finished run in a bucket, from a configuration there, and the working folder."""
    s3.mkdir("stores")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(40)]
    s3.pipe_file("stores/corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    beside = tmp_path_factory.mktemp("beside")
    (beside / "mlflow.db").write_bytes(empty_store.read_bytes())
    here = tmp_path_factory.mktemp("here")
    lines = (
        f"output: {RUN}", "data: {inputs: [s3://stores/corpus.jsonl], dev_fraction: 0.2}", "launcher: local",
        f"tracking: {{uri: 'sqlite:///{beside}/mlflow.db'}}", f"stream: {{cache: {beside}/cache}}",
        "tokenizer: {vocab_size: 300}", "prepare: {num_workers: 1}", "trunk: {config: {hidden_size: 32}}",
        f"lm: {{context_tokens: 64, train: {TRAIN}}}", f"vae: {{train: {TRAIN}}}",
        f"sllm: {{context_sentences: 8, train: {TRAIN}}}", "generate: {max_sentences: 2, prompt: 'The dog. '}",
    )  # fmt: skip
    s3.pipe_file("stores/day=1/run.yaml", "\n".join(lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("HOME", str(beside))
        patch.setenv("MPLCONFIGDIR", str(beside / "cache"))  # of matplotlib, which draws the plots of runs
        done = sllm("run", "s3://stores/day=1/run.yaml")
        assert done.exit_code == 0, done.stderr
        yield ("s3://stores/day=1/run.yaml",), here, beside


def test_all_is_in_the_bucket_and_nothing_here(finished: Any) -> None:
    _, here, beside = finished
    assert list(here.iterdir()) == [], "the working folder stays empty"
    assert {path.name for path in beside.iterdir()} <= {
        "mlflow.db",
        "mlflow.db-shm",
        "mlflow.db-wal",
        "artifacts",
        "cache",
    }
    sizes = Folder(RUN).sizes()
    for job in steps_of([]):
        record = record_at(f"{RUN}/{STEPS[job].folder}")
        assert record is not None and record.finished and record.files, job
        written = {name: sizes.get(f"{STEPS[job].folder}/{name}") for name in record.files}
        assert written == record.files, job
    assert {"unigram", "lm", "vae", "sllm"} < read_report(f"{RUN}/evaluation").keys()
    assert json.loads(Folder(f"{RUN}/text").read("generated.json") or b"")["sentences"]


def test_a_second_run_reuses_all_of_it(finished: Any) -> None:
    arguments, _, _ = finished
    before = _but_report(Folder(RUN).sizes())
    again = sllm("run", *arguments)
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("reuse ") == len(steps_of([])) and "starts as" not in again.stderr
    assert _but_report(Folder(RUN).sizes()) == before
    assert b"reused, of " in (Folder(RUN).read(REPORT_NAME) or b"")


def _but_report(sizes: dict[str, int]) -> dict[str, int]:
    assert REPORT_NAME in sizes
    return {name: size for name, size in sizes.items() if name != REPORT_NAME}


def test_lineage_leads_back_to_the_corpus_in_the_bucket(finished: Any) -> None:
    _, _, beside = finished
    tree = json.loads(sllm("lineage", f"{RUN}/sllm", "--json").stdout)
    models = {one["artifact"]["path"]: one for one in tree["made_from"]}
    assert set(models) == {f"{RUN}/shards", f"{RUN}/vae", f"{RUN}/lm"}
    assert models[f"{RUN}/lm"]["job"] == "train-lm"
    (corpus, _) = models[f"{RUN}/shards"]["made_from"]
    assert corpus["artifact"]["path"] == "s3://stores/corpus.jsonl" and corpus["documents"]["train"] > 0
    report = json.loads(sllm("lineage", f"{RUN}/evaluation", "--json").stdout)
    assert report["job"] == "evaluate" and len(report["made_from"]) == 4
    store = f"sqlite:///{beside}/mlflow.db"
    forward = sllm("lineage", "s3://stores/corpus.jsonl", "--json", "--tracking", store)
    assert json.loads(forward.stdout)["went_into"][0]["went_into"], forward.stderr


def test_shards_are_inspected_and_a_checkpoint_exported(finished: Any) -> None:
    _, here, beside = finished
    plot = sllm("inspect", f"{RUN}/shards", "--plot", "s3://stores/plots/lengths.svg", "--json")
    assert plot.exit_code == 0 and json.loads(plot.stdout)["damaged"] == []
    assert b"<svg" in (Folder("s3://stores/plots").read("lengths.svg") or b"")
    uri = f"tracking.uri=sqlite:///{beside}/mlflow.db"
    done = sllm("export", f"{RUN}/sllm", "output=s3://stores/exported", uri)
    assert done.exit_code == 0, done.stderr
    exported = record_at("s3://stores/exported")
    assert exported is not None and exported.finished and "model.safetensors" in exported.files
    text = sllm("generate", "s3://stores/exported", "generate.max_sentences=1", uri, "--json")
    assert text.exit_code == 0, text.stderr
    assert json.loads(text.stdout)["output"]["path"].startswith("s3://stores/exported-generated/")
    assert list(here.iterdir()) == []


def test_designs_are_compared_in_the_bucket(finished: Any) -> None:
    arguments, here, _ = finished
    given = (
        *("compare", *arguments, f"shards={RUN}/shards", "output=s3://stores/compare", "compare.tokens=300"),
        "compare.variants={a: {title: A, stages: {train-lm: 1}, preset: 's3://stores/day=1/run.yaml'}}",
        *("trunk={}", "lm.train={}", "vae.train={}", "sllm.train={}", "lm.context_tokens=512"),
        *("sllm.context_sentences=64", f"compare.overrides={{lm.train: {TRAIN}}}", "compare.batch_sizes=[1]"),
        *("compare.generated_tokens=4", "compare.repeats=1", "evaluate.max_documents=2"),
    )
    done = sllm(*given)
    assert done.exit_code == 0, done.stderr
    report = Folder("s3://stores/compare/report")
    assert {"comparison.json", "comparison.md", "comparison.png", "comparison.svg"} < set(report.names())
    again = sllm(*given)
    assert again.stderr.count("reuse ") == 2 and "| A |" in again.stdout, again.stderr
    assert list(here.iterdir()) == []


def test_a_job_keeps_replaces_and_continues_as_in_a_folder(finished: Any, s3: Any) -> None:
    """After the other tests: it changes the token-level model."""
    arguments, _, _ = finished
    one = (*arguments, f"shards={RUN}/shards", f"output={RUN}/lm")
    first = record_at(f"{RUN}/lm")
    refused = sllm("train-lm", *one, "lm.train.learning_rate=0.5")
    assert refused.exit_code == 2 and "lm.train.learning_rate was" in refused.stderr
    assert "replace it with --force" in refused.stderr and refused.stderr.count("error:") == 1
    grown = sllm("train-lm", *one, "lm.train.steps=3")
    assert grown.exit_code == 0 and "it continues from step 2" in grown.stderr, grown.stderr
    s3.pipe_file("stores/run/lm/notes.txt", b"mine")
    forced = sllm("train-lm", *one, "lm.train.learning_rate=0.5", "--force")
    assert forced.exit_code == 0, forced.stderr
    last = record_at(f"{RUN}/lm")
    assert (
        first and last and last.run_id != first.run_id and s3.cat_file("stores/run/lm/notes.txt") == b"mine"
    )
    evaluated = sllm("run", *arguments)
    assert evaluated.exit_code == 2 and "train-lm" in evaluated.stderr  # the model is another one
    s3.pipe_file("stores/taken/model.safetensors", b"a person's")
    taken = sllm("train-lm", *one, "output=s3://stores/taken", "--force")
    assert taken.exit_code == 2 and "holds model.safetensors, which no job of ours wrote" in taken.stderr
    record = json.loads(s3.cat_file("stores/run/vae/job.json")) | {"finished": None}
    s3.pipe_file("stores/busy/job.json", json.dumps(record).encode())
    busy = sllm("train-lm", *one, "output=s3://stores/busy")
    assert busy.exit_code == 2 and "holds the unfinished work of train-vae" in busy.stderr


@pytest.mark.parametrize("verb", ["train-lm", "evaluate", "run", "train-segmenter"])
def test_a_mistyped_bucket_is_one_line_before_work(finished: Any, verb: str) -> None:
    arguments, _, _ = finished
    gold = "segmenter_training.gold={path: s3://stores/corpus.jsonl}"
    done = sllm(verb, *arguments, f"shards={RUN}/shards", "output=s3://storse/x", gold)
    assert done.exit_code != 0 and "there is no bucket 'storse'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not os.path.lexists("s3:")
