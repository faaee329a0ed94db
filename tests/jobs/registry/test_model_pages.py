"""The pages of MLflow on which a model is looked at, in a browser."""

import pytest

from infra.registry.models import find_model
from tests.browser import DESKTOP
from tests.infra.tracking.mlflow_server import mlflow_app

WAITS = 60_000


@pytest.fixture(scope="module")
def server(project, evaluated):
    with mlflow_app(f"sqlite:///{project}/mlflow.db") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def model(project):
    return find_model("models:/lm@champion", f"sqlite:///{project}/mlflow.db")


def see(browser, address, name, *texts):
    def check(page):
        for text in texts:
            page.get_by_text(text, exact=False).first.wait_for(timeout=WAITS)
        page.wait_for_timeout(300)  # for a screenshot of the whole page

    browser.look(address, name, check, views=[DESKTOP], ignored="404|501|Failed to load resource")


def test_the_page_of_the_model(browser, server, model):
    page = f"{server}/#/experiments/1/models/{model.model_id}"
    texts = ("bits_per_byte", "shards", "punctuation_v1", "hidden_size", "sllm train-lm", "evaluate scores")
    see(browser, page, "model", *texts)


def test_the_files_of_the_model(browser, server, model):
    page = f"{server}/#/experiments/1/models/{model.model_id}/artifacts"
    see(browser, page, "model-files", "MLmodel", "model.safetensors", "job.json")


def test_the_models_of_the_experiment(browser, server):
    see(browser, f"{server}/#/experiments/1/models", "models", "sllm train-lm", "Ready")


def test_the_registered_model_and_its_version(browser, server):
    see(browser, f"{server}/#/models/lm", "registered-model", "champion", "Version 1")
    see(browser, f"{server}/#/models/lm/versions/1", "model-version", "champion", "punctuation_v1", "prompt")
