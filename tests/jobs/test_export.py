"""The model in any checkpoint of a training job, as a folder of its own with lineage."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import export
from jobs.prepare import prepare
from jobs.training import train_vae
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError
from pipeline.lineage import read_record
from pipeline.models.sentence_vae import SentenceVae
from pipeline.training.checkpoint import AVERAGE, WEIGHT, Checkpoint

TRAIN = (
    "{steps: 4, micro_batch_tokens: 200, micro_batches_per_step: 1, checkpoint_every: 2, ema_decay: 0.5, "
    "activation_checkpointing: true, checkpoint_async: true, learning_rate: 1.0e-2}"
)


@pytest.fixture
def trained(tmp_path, tracking_uri):
    rows = [{"id": f"{i}", "text": f"A cat sat on mat {i}. It slept. " * (1 + i % 4)} for i in range(20)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(
        None,
        [
            f'data.inputs=["{tmp_path / "corpus.jsonl"}"]', "data.dev_fraction=0.2", "launcher=local",
            "tokenizer.vocab_size=280", "prepare.num_workers=1", f"shards={tmp_path / 'shards'}",
            f"output={tmp_path / 'vae'}", f"vae.train={TRAIN}", "vae.hidden_size=16",
            f"tracking.uri={tracking_uri}",
        ],
    )  # fmt: skip
    prepare(config, config.shards)
    return train_vae.run(config)


def same_weights(model, folder, kind):
    checkpoint = Checkpoint(folder)
    for name, parameter in model.named_parameters():
        expected = checkpoint.read(kind, name, 0, parameter.numel()).view(parameter.shape)
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=0)


def test_any_checkpoint_becomes_a_model(trained, tmp_path):
    checkpoint = Path(trained.output.path) / "checkpoints" / "step-000000002"
    record = export.run(str(checkpoint), [f"output={tmp_path / 'at-2'}"])
    same_weights(SentenceVae.from_pretrained(tmp_path / "at-2"), checkpoint, AVERAGE)
    assert Checkpoint(checkpoint).read(AVERAGE, "embedding.weight", 0, 9).tolist() != (
        Checkpoint(checkpoint).read(WEIGHT, "embedding.weight", 0, 9).tolist()
    )
    assert record.inputs[0].kind == "checkpoint" and record.inputs[0].run_id == trained.run_id
    assert read_record(tmp_path / "at-2") == record
    assert (tmp_path / "at-2" / "tokenizer.json").is_file()


def test_the_newest_checkpoint_is_the_model_that_training_left(trained, tmp_path):
    export.run(trained.output.path, [f"output={tmp_path / 'last'}"])
    mine, theirs = (
        load_file(Path(p) / "model.safetensors") for p in (tmp_path / "last", trained.output.path)
    )
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_cannot_be_exported_is_named(trained, tmp_path):
    with pytest.raises(ConfigError, match="output=FOLDER"):
        export.run(trained.output.path, [])
    with pytest.raises(ModelError, match="no checkpoint at"):
        export.run(str(tmp_path / "shards"), [f"output={tmp_path / 'last'}"])
