"""The files of a run in MLflow."""

import dataclasses
import json
import math
import xml.etree.ElementTree as ElementTree
from importlib import metadata

import mlflow.artifacts
import pytest
import yaml

from infra.tracking.store import client_of
from jobs import evaluate, generate
from jobs.runner.run_page.files import environment, result_files
from jobs.runner.run_page.plots import LossCurves, by_position_plot
from pipeline.config import Config
from pipeline.lineage import read_record
from tests.jobs.runner.small_models import config


@pytest.fixture
def files(root, tmp_path):
    """The files of the run that made a folder: names and contents."""
    uri = f"sqlite:///{root}/mlflow.db"

    def read(name):
        run_id = read_record(root / name).run_id
        target = tmp_path / name
        target.mkdir()
        mlflow.artifacts.download_artifacts(run_id=run_id, tracking_uri=uri, dst_path=str(target))
        return {str(one.relative_to(target)): one.read_text() for one in target.rglob("*") if one.is_file()}

    return read


def drawn(svg):
    return ElementTree.fromstring(svg).tag.endswith("svg")


def test_a_model_has_its_configuration_environment_card_and_curve(root, files):
    found = files("lm")
    assert {"config.yaml", "environment.txt", "model_card.md", "plots/loss.svg"} <= found.keys()
    tree = yaml.safe_load(found["config.yaml"])
    assert Config.model_validate(tree).lm == Config.model_validate(read_record(root / "lm").config).lm
    assert f"torch=={metadata.version('torch')}" in found["environment.txt"].splitlines()
    assert "learned_v2" in found["model_card.md"] and "train/tokens" in found["model_card.md"]
    assert drawn(found["plots/loss.svg"])


def test_shards_have_the_lengths_of_their_sentences(files):
    assert drawn(files("shards")["plots/sentence_lengths.svg"])


def test_an_evaluation_has_its_figures_and_bits_per_byte_by_position(root, files):
    models = [f"models.{name}={root}/{name}" for name in ("lm", "vae", "sllm")]
    evaluate.run(
        config(root, "figures", f"shards={root}/shards", *models, "compare.position_edges=[0,8,16,32]")
    )
    found = files("figures")
    assert json.loads(found["report/evaluation.json"])["lm"]["bits_per_byte"] > 0
    assert drawn(found["plots/bits_per_byte_by_position.svg"])
    client = client_of(f"sqlite:///{root}/mlflow.db")
    run_id = read_record(root / "figures").run_id
    history = client.get_metric_history(run_id, "lm/bits_per_byte_by_position")
    assert [metric.step for metric in history][:3] == [8, 16, 32]
    assert all(math.isfinite(metric.value) for metric in history)
    assert "sllm_latents_zeroed/bits_per_byte_by_position" in client.get_run(run_id).data.metrics


def test_generated_text_is_a_sample(root, files):
    generate.run(config(root, "text", f"models.sllm={root}/sllm", "generate.prompt=The dog sleeps. "))
    assert files("text")["samples/generated.txt"].startswith("The dog sleeps.")


def test_files_that_cannot_be_made_are_left_out_with_a_warning(root, tmp_path, caplog):
    record = dataclasses.replace(read_record(root / "shards"), files={})
    assert result_files(record, str(tmp_path)) == {} and "are not shown in MLflow" in caplog.text


def test_long_curves_are_thinned_and_points_of_dev_kept():
    curves = LossCurves()
    for step in range(1, 20_001):
        dev = {"dev/nll_per_token": 1.0} if step % 2000 == 0 else {}
        curves.add(step, {"train/nll_per_token": 1 / step, "train/tokens": step * 10.0, **dev})
    assert len(curves._points) <= 2001 and drawn(curves.svg())
    assert LossCurves().svg() is None


def test_bins_without_tokens_are_left_out_of_the_plot():
    assert drawn(by_position_plot([0, 8, 16], {"lm": [2.0, math.nan], "sllm": [1.5, 1.2]}))


def test_the_environment_is_sorted_and_names_the_interpreter():
    first, *rest = environment().splitlines()
    assert first.startswith("# Python 3.") and rest == sorted(
        rest, key=lambda line: line.partition("==")[0].lower()
    )
