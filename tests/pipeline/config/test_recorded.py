"""A job's record is a configuration."""

import json

import pytest

from pipeline.config import Config, load_config
from pipeline.config.recorded import with_references
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord, write_record


def record(folder, config):
    made = Artifact("model", str(folder), "ab" * 32)
    write_record(folder, JobRecord("train-lm", "cd" * 32, config, (), made, "", {}, {}, "2026", "2026"))
    return str(folder / "job.json")


def test_a_record_is_the_configuration_of_its_job(tmp_path):
    config = load_config(
        None, ["output=runs/lm", "lm.train.steps=7", 'generate.prompt="***"', "data.inputs=[a, b]"]
    )
    path = record(tmp_path, with_references(config.model_dump(mode="json")))
    assert load_config(path) == config
    assert load_config(path, ["lm.train.steps=8"]).lm.train.steps == 8
    with pytest.raises(ConfigError, match=r"did you mean|unknown|lm\.train"):
        load_config(path, ["lm.train.step=8"])


def test_an_older_record_has_the_keys_of_its_version(tmp_path):
    assert load_config(record(tmp_path, {"vae": {"kl_floor": 0.25}, "shards": "s"})).vae.free_bits == 0.25


def test_secrets_are_recorded_by_reference(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "hunter2pass")
    monkeypatch.setenv("UNRELATED", "host")
    written = "https://me:${STORE_PASSWORD}@host/corpus.jsonl"
    config = load_config(
        None, [f'data.inputs=["{written}"]', "tracking.uri=postgresql://me:${STORE_PASSWORD}@h/db"]
    )
    tree = with_references(config.model_dump(mode="json"))
    assert tree["data"]["inputs"] == [written] and "hunter2pass" not in json.dumps(tree)
    path = record(tmp_path, tree)
    assert load_config(path) == config
    monkeypatch.delenv("STORE_PASSWORD")
    with pytest.raises(ConfigError, match="STORE_PASSWORD is not set"):
        load_config(path)


def test_a_secret_that_was_written_out_is_asked_for(tmp_path):
    config = load_config(None, ["data.inputs=[https://me:pw123456@h/a]", "tracking.uri=http://me:pw123456@h"])
    path = record(tmp_path, with_references(config.model_dump(mode="json")))
    with pytest.raises(ConfigError, match=r"job\.json: data\.inputs held a secret.*add data\.inputs=VALUE"):
        load_config(path)
    again = load_config(path, ["data.inputs=[https://me:pw123456@h/a]"])
    assert again.data == config.data and again.tracking.uri is None


def test_no_other_mapping_is_a_record(tmp_path):
    (tmp_path / "x.yaml").write_text("job: train-lm\n")
    with pytest.raises(ConfigError, match="job"):
        load_config(str(tmp_path / "x.yaml"))
    assert load_config(None) == Config()
