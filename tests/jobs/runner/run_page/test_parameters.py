"""The parameters of a run: what decides its result, and what else was set."""

from infra.tracking.params import flatten
from jobs.runner.run_page.parameters import run_parameters
from pipeline.config import load_config

SECTIONS = ["precision", "lm", "trunk"]
WITHOUT = ["lm.train.log_every"]
BESIDE = ["shards", "models", "stream", "launcher", "ray", "deepspeed"]


def shown(*overrides, tags=None):
    tree = load_config(None, ["output=/runs/lm", "shards=/runs/shards", *overrides]).model_dump(mode="json")
    return flatten(run_parameters(tree, SECTIONS, WITHOUT, BESIDE, tags or {}))


def test_what_decides_the_result_is_shown_also_by_default_and_what_is_empty_is_not():
    found = shown()
    assert found["lm.train.steps"] == "1000" and found["lm.train.seed"] == "0"
    assert (
        found["precision"] == "fp32" and found["output"] == "/runs/lm" and found["shards"] == "/runs/shards"
    )
    assert not {"lm.train.log_every", "trunk.path", "lm.loss_tokens", "models.lm"} & found.keys()
    assert all(value not in ("null", "{}", "[]", "") for value in found.values())


def test_how_it_runs_is_shown_where_it_is_not_as_by_default():
    assert not {key for key in shown() if key.startswith(("ray.", "deepspeed.", "stream.", "tracking."))}
    found = shown("ray.num_workers=[2,8]", "deepspeed.zero_stage=3", "deepspeed.config={a.b: {c: 1}}")
    assert found["ray.num_workers"] == "[2, 8]" and found["deepspeed.zero_stage"] == "3"
    assert len([key for key in found if key.startswith("ray.")]) == 1


def test_a_job_has_no_parameter_of_another():
    found = shown("vae.num_layers=3", "lm.train.log_every=7", "data.inputs=[a.txt]")
    assert found == shown()


def test_the_segmenter_of_the_shards_is_shown():
    tags = {"segmenter": "fixed_v1", "segmenter.options": '{"tokens": 8}', "tokenizer.digest": "ab"}
    found = shown(tags=tags)
    assert found["segmenter.name"] == "fixed_v1" and found["segmenter.options"] == '{"tokens": 8}'
    assert found["tokenizer.digest"] == "ab"
