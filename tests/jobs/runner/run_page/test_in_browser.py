"""Our runs on the pages of MLflow's web interface, in a real browser: what people look for is there.

The server is MLflow's application without its web sockets and its assistant; the pages ask for those and go on.
"""

import json
import urllib.parse

import pytest

from infra.tracking.parent import ParentRun, jobs_below
from infra.tracking.run import start_run
from infra.tracking.store import client_of, experiment_page
from pipeline.config import TrackingConfig
from pipeline.lineage import read_record
from tests.browser import DESKTOP
from tests.infra.tracking.mlflow_server import mlflow_app

NOT_SERVED = "Failed to load resource|Failed to fetch|[Aa]borted"  # requests that end with the page, too
TRAINING_VIEW = "workflowType=machine_learning"


@pytest.fixture(scope="module")
def store(root):
    """The address of a store with shards and a model of each kind, and with a command that had two jobs."""
    uri = f"sqlite:///{root}/mlflow.db"
    config = TrackingConfig(uri=uri)
    parent = ParentRun(config, "run several", str(root / "several"), lambda run: None)
    with jobs_below(parent):
        for name in ("first", "second"):
            run = start_run(config, f"job {name}", str(root / "several" / name))
            for step in range(3):
                run.log_system_metrics({"system/cpu_utilization_percentage": 50.0 + step}, 10 * step)
            run.end("FINISHED")
            run.close()
    return uri


@pytest.fixture(scope="module")
def server(store):
    with mlflow_app(store) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def look(browser, server, store):
    """Open a page of the interface and wait for texts on it -> all its text."""
    client = client_of(store)
    experiment = client.get_experiment_by_name("sllm").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}

    def open_page(name, path, *texts, act=lambda page: None):
        def check(page):
            for text in texts:
                page.get_by_text(text).first.wait_for(timeout=45_000)
            act(page)
            page.wait_for_timeout(500)
            return page.inner_text("body")

        address = f"{server}/#{path}".replace("EXPERIMENT", experiment)
        (seen,) = browser.look(address, f"mlflow-{name}", check, [DESKTOP], ignored=NOT_SERVED)
        return seen

    open_page.runs = runs
    return open_page


def test_the_page_of_runs_opens_for_training_with_the_jobs_of_a_command_below_it(look, store, server):
    page = experiment_page(TrackingConfig(uri=store))
    assert page.startswith("http://127.0.0.1:5000/#/experiments/") and page.endswith(TRAINING_VIEW)
    path = page.partition("/#/experiments/")[2].partition("/")[2]

    def show_data_sets(page):
        page.get_by_text("Expand rows").first.click()
        page.get_by_text("corpus (").first.wait_for()

    text = look("runs", f"/experiments/EXPERIMENT/{path}", "run several", "train-lm lm", act=show_data_sets)
    lines = text.splitlines()
    assert {"Runs", "Models", "prepare shards", "sllm train-lm"} <= set(lines)
    assert "job first" not in text and "matching runs" in text  # folded below that of the command
    assert [line for line in lines if line.startswith("learned_v2 (")]  # the data sets of prepare
    assert "Judges" not in text and "Prompts" not in text  # the view of traces and prompts


def test_a_run_says_what_it_is_from_what_and_by_whom(look, root):
    record = read_record(root / "lm")
    path = f"/experiments/EXPERIMENT/runs/{look.runs['train-lm lm']}?{TRAINING_VIEW}"
    text = look("run", path, "Trains the token-level language model", "lm.train.steps", "Registered models")
    for part in ("train/tokens", "segmenter", "learned_v2", record.user, "shards", "sllm train-lm"):
        assert part in text, part
    assert "tracking.uri" not in text and "ray.resize_seconds" not in text


def test_a_run_has_curves_and_system_metrics(look):
    lm, job = look.runs["train-lm lm"], look.runs["job first"]
    look("curves", f"/experiments/EXPERIMENT/runs/{lm}/model-metrics", "nll_per_token")
    look("system", f"/experiments/EXPERIMENT/runs/{job}/system-metrics", "cpu_utilization")


def test_the_files_of_a_run_are_shown(look):
    path = f"/experiments/EXPERIMENT/runs/{look.runs['train-lm lm']}/artifacts/plots/loss.svg"

    def is_drawn(page):
        picture = page.locator("img[src^='blob:'], img[src*='loss.svg'], svg .axes_1, [class*=image]").first
        picture.wait_for(state="attached")

    text = look("files", path, "model_card.md", "loss.svg", act=is_drawn)
    assert {"config.yaml", "environment.txt"} <= set(text.splitlines())


@pytest.mark.parametrize(("segmenter", "number"), [("learned_v2", 3), ("reference_v1", 0)])
def test_a_search_by_segmenter_finds_the_models(look, segmenter, number):
    query = f"tags.segmenter = '{segmenter}' AND tags.`sllm.job` LIKE 'train-%'"
    path = f"/experiments/EXPERIMENT/runs?{TRAINING_VIEW}&searchFilter={urllib.parse.quote(query)}"
    text = look(
        f"search-{number}",
        path,
        *(["train-sllm sllm", "train-lm lm"] if number else ["All runs in this experiment"]),
    )
    assert [line for line in text.splitlines() if line.startswith("train-")] == (
        ["train-sllm sllm", "train-vae vae", "train-lm lm"] if number else []
    )


def test_two_runs_are_compared(look):
    chosen = json.dumps([look.runs["train-lm lm"], look.runs["train-vae vae"]])
    path = f"/compare-runs?runs={urllib.parse.quote(chosen)}&experiments=%5B%22EXPERIMENT%22%5D"
    text = look("compare", path, "Comparing 2 Runs", "vae.num_layers")
    assert "train-lm lm" in text and "tokenizer.digest" in text
