"""What was written before modules moved and options were renamed still loads, and says the same.

`tests/artifacts/first` was made by `sllm run config.yaml` with `OVERRIDES` under their older names, at commit 92c47dc.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

import segmenters
from jobs import evaluate, prepare
from jobs.lineage import command
from jobs.training import train_sllm, train_vae
from pipeline.config import load_config
from pipeline.config.renamed import REMOVED, RENAMED
from pipeline.errors import ConfigError
from pipeline.lineage import read_record, write_record
from pipeline.shards.reading import open_shards

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "first"
OVERRIDES = [
    "segmenter.name=punctuation_v1",  # was the default then
    *("vae.block=llama", "vae.conditioning=prefix", "vae.kl_weight=0.01", "vae.tie_word_embeddings=false"),
    *("vae.ffn_multiplier=2.6875", "vae.decoder_window=16", "vae.output_latent_scale=0.1"),
    *("vae.encoder_embedding=output", "vae.free_bits=0.25", "sllm.loss_sentences=4"),
    *("sllm.context_attention_heads=4", "sllm.context_sentences=16", "lm.loss_tokens=32"),
    *("trunk.config.hidden_size=16", "trunk.config.intermediate_size=32"),
]


@pytest.fixture
def load(tmp_path, monkeypatch, tracking_uri):
    shutil.copytree(ARTIFACTS, tmp_path / "runs")
    for name in ("corpus.jsonl", "config.yaml"):
        shutil.move(tmp_path / "runs" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def load(output, *overrides):
        kinds = {"runs/vae": ("lm",), "runs/sllm": ("lm", "vae")}.get(output, ("lm", "vae", "sllm"))
        models = [f"models.{kind}=runs/{kind}" for kind in kinds]
        return load_config(
            "config.yaml",
            [
                *OVERRIDES,
                f"output={output}",
                "shards=runs/shards",
                f"tracking.uri={tracking_uri}",
                *models,
                *overrides,
            ],
        )

    return load


def test_shards_are_intact_and_reused(load, capfd):
    shards = open_shards("runs/shards")
    assert not shards.damaged()
    before = Path("runs/shards/train-00000.arrow").read_bytes()
    record = prepare.run(load("runs/shards"))
    assert "reuse runs/shards" in capfd.readouterr().err
    assert record == read_record(Path("runs/shards"))
    with pytest.raises(
        ConfigError, match=r"segmenter.name was 'punctuation_v1', is 'learned_v2'.*another output"
    ):
        prepare.run(load("runs/shards", "segmenter.name=learned_v2"))
    prepare.run(load("runs/again"))
    assert Path("runs/again/train-00000.arrow").read_bytes() == before


def test_models_have_the_likelihood_of_before(load):
    evaluate.run(load("runs/scores"))
    then = json.loads((ARTIFACTS / "evaluation" / "evaluation.json").read_text())
    now = json.loads(Path("runs/scores/evaluation.json").read_text())
    assert now.keys() == then.keys()
    for name, figures in then.items():
        assert now[name] == pytest.approx(figures, rel=1e-5), name


@pytest.mark.parametrize("kind", ["vae", "sllm"])
def test_finished_models_are_reused(load, kind, capfd):
    run = {"vae": train_vae.run, "sllm": train_sllm.run}[kind]
    assert run(load(f"runs/{kind}")) == read_record(Path("runs", kind))
    assert f"reuse runs/{kind}" in capfd.readouterr().err


def test_training_resumes_from_a_checkpoint(load):
    folder = Path("runs/sllm")
    record = read_record(folder)
    weights = load_file(folder / "model.safetensors")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    write_record(folder, dataclasses.replace(record, finished=None, files={}, metrics={}))
    train_sllm.run(load("runs/sllm"))
    now = load_file(folder / "model.safetensors")
    assert len(now) == len(weights)
    for before, after in zip(weights.values(), now.values(), strict=True):
        assert after.numpy() == pytest.approx(before.numpy(), abs=1e-5)


def test_records_lead_back_to_the_corpus(load, capsys):
    command.show("runs/sllm", None)
    said = capsys.readouterr().out
    assert "corpus.jsonl" in said and "punctuation_v1" in said


def test_paths_of_segmenters_written_in_configurations():
    made = segmenters.load("segmenters.learned:Learned")
    assert made.fingerprint() == segmenters.load("learned_v1").fingerprint()


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_names_the_new_one(old, new):
    with pytest.raises(ConfigError, match=f"{old} is now called {new}"):
        load_config(None, [f"{old}=1"])


@pytest.mark.parametrize("key", REMOVED)
def test_a_key_that_is_gone_is_said_to_be(key):
    with pytest.raises(ConfigError, match=f"{key} is gone: .*leave it out"):
        load_config(None, [f"{key}=1"])
    section, _, name = key.partition(".")
    saved = json.loads((ARTIFACTS / section / "config.json").read_text())
    assert name in saved  # and it loads, above
