"""The whole path in one process: every job, its figures, and a second run that only says what it reuses."""

import json
from pathlib import Path

import pytest

from infra.tracking.store import client_of
from jobs import inspect
from jobs import run as whole_path
from jobs.lineage import command as lineage
from jobs.pages.run import REPORT_NAME
from jobs.reports.evaluation import read_report
from jobs.verbs import STEPS, steps_of
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError
from pipeline.lineage import read_record
from pipeline.shards.reading import open_shards
from tests.browser import fits
from tests.jobs.pages.contrast import assert_legible

TRAIN = "{steps: 4, micro_batch_tokens: 256, micro_batches_per_step: 2, eval_every: 4, checkpoint_every: 2}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(corpus, output, tracking_uri, *overrides):
    return load_config(
        None,
        [
            f"output={output}", f"tracking.uri={tracking_uri}", f'data.inputs=["{corpus}"]', "launcher=local",
            "data.dev_fraction=0.2", "tokenizer.vocab_size=300", "prepare.num_workers=1", "lm.context_tokens=64",
            "sllm.context_sentences=8", f"lm.train={TRAIN}", f"vae.train={TRAIN}", f"sllm.train={TRAIN}",
            "generate.max_sentences=3", "generate.prompt=The dog sleeps. ", *overrides,
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(corpus, empty_store, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    uri = f"sqlite:///{output}/mlflow.db"
    Path(output, "mlflow.db").write_bytes(empty_store.read_bytes())
    whole_path.run(config(corpus, output, uri))
    return output, uri


def test_every_job_leaves_its_record_and_figures(finished):
    output, _ = finished
    for job in steps_of([]):
        record = read_record(output / STEPS[job].folder)
        assert record is not None and record.finished, job
    report = read_report(str(output / "evaluation"))
    assert {"unigram", "lm", "vae", "sllm", "sllm_latents_zeroed", "sllm_latents_shuffled"} == report.keys()
    sizes = {
        (figures["documents"], figures["tokens"], figures["bytes"])
        for name, figures in report.items()
        if name != "vae"
    }
    assert len(sizes) == 1  # all models were scored on the same documents
    text = json.loads((output / "text" / "generated.json").read_text())
    assert 1 <= len(text["sentences"]) <= 3


def test_the_report_shows_the_whole_run(finished, browser):
    output, _ = finished
    page = output / "report.html"
    assert page.stat().st_size < 200_000

    def check(seen):
        fits(seen)
        assert_legible(seen, "p, h2, h3, td, th, dt, dd, summary, .text .s, .tile b, .tile span, nav a")
        headings = [one.strip() for one in seen.locator("h2").all_inner_texts()]
        expected = [
            "Jobs",
            "Corpus",
            "Sentences of",
            "Training",
            "Comparison",
            "Generated text",
            "Lineage",
            "Do it",
        ]
        assert len(headings) == len(expected)
        assert all(one.startswith(start) for one, start in zip(headings, expected, strict=True))
        assert seen.locator("#jobs tbody tr").count() == 6
        assert seen.locator("#jobs td", has_text="ran in").count() == 6
        assert seen.locator("#sentences .s").count() > 3
        assert seen.locator("#curves polyline").count() >= 6
        assert seen.locator("#comparison svg polyline").count() == 4  # of each model and its controls
        seen.locator("#lineage .graph a", has_text="corpus.jsonl").click()
        assert seen.locator("article:target").is_visible()

    browser.look(page, "report", check)


def test_figures_of_the_report_are_those_of_the_jobs(finished):
    output, _ = finished
    html = (output / "report.html").read_text()
    for name, figures in read_report(str(output / "evaluation")).items():
        if name != "vae":
            assert f"{figures['bits_per_byte']:.4f}" in html, name
    totals = read_record(output / "shards").metrics
    assert f"{totals['train/sentences']:,.0f}" in html and f"{totals['dev/tokens']:,.0f}" in html
    assert read_record(output / "sllm").output.digest in html
    assert "</span> The dog sleeps." in html and "dev_fraction: 0.2" in html


def test_mlflow_shows_the_report_of_the_run(finished):
    _, uri = finished
    client = client_of(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`sllm.verb` = 'run'")
    assert REPORT_NAME in [file.path for file in client.list_artifacts(run.info.run_id)]


def test_a_page_that_is_not_ours_is_not_replaced(corpus, tmp_path, tracking_uri):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match=r"report\.html is not a report of `sllm run`.*move it away"):
        whole_path.run(config(corpus, tmp_path / "out", tracking_uri))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["report.html"]


def test_a_second_run_reuses_everything(finished, corpus, capfd):
    output, uri = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    capfd.readouterr()
    whole_path.run(config(corpus, output, uri))
    said = capfd.readouterr().err
    assert said.count("reuse ") == len(steps_of([]))
    assert "run: job 1 of 6, prepare\n" in said and "run: job 6 of 6, generate\n" in said
    html = (output / "report.html").read_text()
    assert html.count("reused, of 20") == len(steps_of([])) and "ran in" not in html
    assert "starts as" not in said
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}


def test_models_of_other_shards_are_refused(finished, corpus, tmp_path):
    output, uri = finished
    from jobs import prepare
    from jobs.training import train_sllm

    other = config(corpus, tmp_path / "shards", uri, "tokenizer.vocab_size=280")
    prepare.run(other)
    wrong = other.model_copy(
        update={
            "output": str(tmp_path / "sllm"),
            "shards": str(tmp_path / "shards"),
            "models": other.models.model_copy(update={"lm": str(output / "lm"), "vae": str(output / "vae")}),
        }
    )
    with pytest.raises(ModelError, match="has another tokenizer than the shards"):
        train_sllm.run(wrong)


def test_the_records_list_all_that_was_written(finished):
    output, _ = finished
    for job in steps_of([]):
        folder = output / STEPS[job].folder
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        apart = {name for name in there if name.startswith((".", "checkpoints/")) or name == "job.json"}
        assert set(read_record(folder).files) == there - apart, job


def test_foreign_files_in_a_later_folder_are_refused_before_any_work(corpus, tmp_path, tracking_uri):
    (tmp_path / "out" / "vae").mkdir(parents=True)
    (tmp_path / "out" / "vae" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"vae holds notes\.txt, which no job of ours wrote"):
        whole_path.run(config(corpus, tmp_path / "out", tracking_uri))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["vae", "notes.txt"]


def test_force_makes_all_anew_and_removes_checkpoints_and_no_more(finished, corpus, capfd):
    output, uri = finished
    others = [
        output / "lm" / "notes.txt",
        output / "lm" / "checkpoints" / "notes.txt",
        output / "lm" / "checkpoints" / "step-best" / "notes.txt",
        output / "shards" / "progress" / "notes.txt",
        output / "shards" / "tokenizer" / "notes.txt",
        output / "shards" / "film.partial",
        output / "notes.txt",
    ]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (output / "lm" / "checkpoints" / "link").symlink_to("..")
    (output / "shards" / "link").symlink_to("../lm")
    changed = config(corpus, output, uri, "data.dev_fraction=0.3", "run.jobs=[prepare, train-lm]")
    with pytest.raises(ConfigError, match=r"data\.dev_fraction was 0\.2, is 0\.3"):
        whole_path.run(changed)
    whole_path.run(changed, force=True)
    assert all(path.read_text() == "mine" for path in others)
    assert (output / "lm" / "checkpoints" / "link").is_symlink() and (output / "shards" / "link").is_symlink()
    assert not {"notes.txt", "film.partial"} & {
        *read_record(output / "lm").files,
        *read_record(output / "shards").files,
    }


def test_lineage_and_inspect_write_pages_in_place_of_their_trees(finished, tmp_path, capsys):
    output, _ = finished
    lineage.show(str(output / "lm"), None, html=str(tmp_path / "lineage.html"))
    inspect.show(str(output / "shards"), html=str(tmp_path / "shards.html"))
    assert capsys.readouterr().out == ""
    record = read_record(output / "lm")
    html = (tmp_path / "lineage.html").read_text()
    assert record.output.digest in html and all(given.digest in html for given in record.inputs)
    assert read_record(output / "shards").inputs[0].digest in html
    assert open_shards(str(output / "shards")).manifest.digest in (tmp_path / "shards.html").read_text()
