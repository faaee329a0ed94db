"""No file that is read names another outside of its own folder: neither a job's record nor a model's index."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from pipeline.errors import ConfigError, ModelError
from pipeline.lineage import Artifact, JobRecord, parse_record
from pipeline.models.model_folder import read_config
from pipeline.models.token_lm import load_causal_lm
from pipeline.names_in_folder import first_outside

OUTSIDE = (
    *(
        "../shards/x.arrow",
        "a/../../x",
        "..",
        "/etc/passwd",
        "//host/x",
        "..\\x",
        "C:\\x",
        "C:x",
        "\\\\host\\share\\x",
    ),
    *("s3://bucket/x", "file:///x", "", "."),
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_folder_is_found(name):
    assert first_outside(["model.safetensors", name]) == name


@pytest.mark.parametrize("name", [None, 3, ["x"]])
def test_what_is_no_text_is_no_name(name):
    assert first_outside([[name]]) == [name]


@given(st.lists(st.text("abc._- äé0", min_size=1).filter(lambda part: part not in (".", "..")), min_size=1))
def test_names_below_the_folder_are_not_found(parts):
    assert first_outside(["/".join(parts)]) is None


def record_text(files):
    output = Artifact("shards", "x", "3" * 64, run_id="r")
    record = JobRecord(
        job="prepare",
        identity="i" * 64,
        config={},
        inputs=(),
        output=output,
        run_id="r",
        metrics={},
        versions={},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:00+00:00",
        files=files,
    )
    return json.dumps(dataclasses.asdict(record)).encode()


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_job_record_with_such_a_file_is_refused(name):
    assert parse_record(record_text({"manifest.json": 3}), "runs/x").files == {"manifest.json": 3}
    with pytest.raises(ConfigError, match=r"job\.json .* is not in the folder"):
        parse_record(record_text({"manifest.json": 3, name: 3}), "runs/x")


@pytest.mark.parametrize("link", ["../outside.safetensors", "ABSOLUTE"])
def test_a_model_index_with_such_a_file_is_refused(tmp_path, link):
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=1, n_head=1, n_embd=8, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0
        )
    )
    folder = tmp_path / "lm"
    model.save_pretrained(folder)
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    named = link if link != "ABSOLUTE" else str(tmp_path / "outside.safetensors")
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {name: named for name, _ in model.named_parameters()},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for read in (load_causal_lm, read_config):
        with pytest.raises(ModelError, match=r"index\.json names the file .* is not in the folder"):
            read(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "[" * 100_000])
def test_a_damaged_model_index_is_one_error(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        load_causal_lm(str(tmp_path))
