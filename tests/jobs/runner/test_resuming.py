"""Training resumes with more steps and starts from a model's own weights; other changes are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infra.checkpoints.folder import CheckpointFolder
from infra.tracking.store import client_of
from jobs import prepare
from jobs import run as whole_path
from jobs.lineage.walk import walk_back
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError, TrainingError
from pipeline.lineage import artifact_of, read_record, write_record

TRAIN = "{steps: 4, micro_batch_tokens: 256, micro_batches_per_step: 1, checkpoint_every: 2, log_every: 1}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "
JOBS = {"lm": train_lm, "vae": train_vae, "sllm": train_sllm}


@pytest.fixture(scope="module")
def root(tmp_path_factory, empty_store):
    root = tmp_path_factory.mktemp("going-on")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(60)]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(empty_store, root / "mlflow.db")
    prepare.run(config(root, "shards"))
    for kind, models in (("lm", ()), ("vae", ("lm",)), ("sllm", ("lm", "vae"))):
        JOBS[kind].run(config(root, kind, *(f"models.{name}={root / name}" for name in models)))
    return root


def config(root, output, *overrides):
    given = [
        *(f"output={root / output}", f"tracking.uri=sqlite:///{root}/mlflow.db", "launcher=local"),
        *(f'data.inputs=["{root}/corpus.jsonl"]', "prepare.num_workers=1", "tokenizer.vocab_size=300"),
        *("lm.context_tokens=64", "sllm.context_sentences=8", "trunk.config.hidden_size=32"),
        *(f"lm.train={TRAIN}", f"vae.train={TRAIN}", f"sllm.train={TRAIN}"),
    ]
    if output != "shards":
        given.append(f"shards={root}/shards")
    return load_config(None, [*given, *overrides])


def started_from(root, *overrides):
    """A copy of the finished token-level model's output, with its checkpoints, to be resumed."""
    names = sorted(path.name for path in root.glob("copy-*"))
    output = f"copy-{len(names)}"
    shutil.copytree(root / "lm", root / output)
    return output


def curve(record, root, key="train/learning_rate"):
    history = client_of(f"sqlite:///{root}/mlflow.db").get_metric_history(record.run_id, key)
    return {metric.step: metric.value for metric in history}


def test_steps_may_grow_and_the_schedule_is_printed(root, capfd):
    output = started_from(root)
    before = read_record(root / output)
    record = train_lm.run(config(root, output, "lm.train.steps=6"))
    said = capfd.readouterr().err
    assert (
        "4 steps become 6; it continues from step 4 with the learning rate of a cosine over 6 steps" in said
    )
    assert record.run_id != before.run_id and set(curve(record, root)) == {5, 6}
    tags = client_of(f"sqlite:///{root}/mlflow.db").get_run(record.run_id).data.tags
    assert tags["sllm.continues"] == before.run_id
    assert record.output.digest != before.output.digest
    assert record.config["lm"]["train"]["steps"] == 6
    assert train_lm.run(config(root, output, "lm.train.steps=6")) == record
    with pytest.raises(ConfigError, match=r"lm\.train\.steps was 6, is 4.*--force"):
        train_lm.run(config(root, output))


def test_an_interrupted_run_may_get_more_steps_too(root, capfd, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "keep_model", killed)
    with pytest.raises(KeyboardInterrupt):
        train_lm.run(config(root, "interrupted"))
    monkeypatch.undo()
    record = train_lm.run(config(root, "interrupted", "lm.train.steps=6"))
    assert record.metrics["train/tokens"] > 0 and set(curve(record, root)) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    "change",
    [
        *(
            "log_every=3",
            "eval_every=2",
            "eval_micro_batches=3",
            "checkpoint_every=1",
            "checkpoint_async=true",
        ),
        *("keep_checkpoints=5", "spike_deviations=0", "activation_checkpointing=true"),
    ],
)
def test_what_does_not_change_what_is_learned_may_change(root, change, capfd):
    first = read_record(root / "lm")
    assert train_lm.run(config(root, "lm", f"lm.train.{change}")) == first
    assert "reuse" in capfd.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        "lm.train.learning_rate=0.01",
        "lm.train.seed=1",
        "lm.train.ema_decay=0.9",
        "lm.train.steps=3",
        "precision=bf16",
    ],
)
def test_what_changes_what_is_learned_is_refused_by_name(root, change):
    key = change.partition("=")[0].replace(".", r"\.")
    with pytest.raises(ConfigError, match=rf"{key} was .*another output, or replace it with --force"):
        train_lm.run(config(root, "lm", change))
    with pytest.raises(ConfigError, match=key):  # and with more steps as well
        train_lm.run(config(root, "lm", change, *(["lm.train.steps=9"] if "steps" not in change else [])))


def test_a_run_of_an_earlier_version_is_reused(root, capfd):
    """Its configuration lacks options that have come since, and its identity was of more of them."""
    output = started_from(root)
    record = read_record(root / output)
    tree = json.loads(json.dumps(record.config))
    for section, key in (("tokenizer", "bos_token"), ("tokenizer", "eos_token"), ("lm", "loss_tokens")):
        del tree[section][key]
    old = record.__class__(**{**record.__dict__, "config": tree, "identity": "of another version"})
    write_record(root / output, old)
    assert train_lm.run(config(root, output)).run_id == record.run_id
    assert "reuse" in capfd.readouterr().err


def test_without_checkpoints_more_steps_are_refused_with_a_way_out(root):
    output = started_from(root)
    shutil.rmtree(root / output / "checkpoints")
    with pytest.raises(ConfigError, match=r"no checkpoint left.*models\.lm="):
        train_lm.run(config(root, output, "lm.train.steps=6"))
    assert artifact_of(root / output).digest == artifact_of(root / "lm").digest


def test_with_damaged_checkpoints_nothing_starts_anew(root):
    output = started_from(root)
    for file in Path(root / output / "checkpoints").rglob("state-*.safetensors"):
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(TrainingError, match="damaged"):
        train_lm.run(config(root, output, "lm.train.steps=6"))
    assert read_record(root / output).finished


@pytest.mark.parametrize("kind", ["lm", "vae", "sllm"])
def test_training_starts_from_the_models_own_weights(root, kind, capfd):
    start = root / kind
    given = [f"models.{kind}={start}", f"{kind}.train.learning_rate=1e-12", f"{kind}.train.weight_decay=0"]
    record = JOBS[kind].run(config(root, f"{kind}-more", *given))
    before, after = (load_file(folder / "model.safetensors") for folder in (start, root / f"{kind}-more"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=0)
    parents = {artifact.path for artifact in record.inputs}
    assert parents == {str(root / "shards"), str(start)}
    step = walk_back(artifact_of(record.output.path))
    assert str(start) in [given.artifact.path for given in step.made_from]


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        ("lm", "trunk.config.num_hidden_layers=3", "has num_hidden_layers 2, trunk.config says 3"),
        ("lm", "trunk.config.hidden_size=64", "has hidden_size 32, trunk.config says 64"),
        ("vae", "vae.num_layers=2", "has num_layers 1, the configuration says 2"),
        ("vae", "vae.hidden_size=64", "has hidden_size 32, the configuration says 64"),
        ("vae", "vae.kl_weight=0.1", "has kl_weight 0.0, the configuration says 0.1"),
        ("vae", "vae.tie_word_embeddings=false", "tie_word_embeddings"),
        (
            "sllm",
            "sllm.context_attention_heads=4",
            "context_attention_heads 0, sllm.context_attention_heads says 4",
        ),
        ("sllm", "sllm.context_sentences=64", "64 positions, too few for"),
        ("sllm", "trunk.config.num_hidden_layers=3", "has num_hidden_layers 2, trunk.config says 3"),
    ],
)
def test_only_from_weights_of_the_same_architecture(root, kind, change, match):
    with pytest.raises(ModelError, match=match):
        JOBS[kind].run(config(root, "other", f"models.{kind}={root / kind}", change))
    assert not (root / "other").exists()


def test_options_of_training_may_differ_from_the_start(root):
    options = ["vae.token_dropout=0.1", "vae.focal_gamma=2", f"models.vae={root}/vae"]
    JOBS["vae"].run(config(root, "vae-dropout", *options, "vae.train.steps=1"))
    tree = json.loads((root / "vae-dropout" / "config.json").read_text())
    assert (tree["token_dropout"], tree["focal_gamma"]) == (0.1, 2.0)


def test_the_folder_that_a_job_writes_is_its_result_and_not_its_start(root, capfd):
    record = train_lm.run(config(root, "lm", f"models.lm={root}/lm"))
    assert record == read_record(root / "lm") and "reuse" in capfd.readouterr().err
    wired = whole_path.wire(config(root, "run", f"models.lm={root}/lm"), "train-lm")
    assert wired.models.lm == str(root / "lm")
    assert whole_path.wire(config(root, "run"), "train-lm").models.lm is None
    assert whole_path.wire(config(root, "run"), "train-vae").models.lm == str(root / "run" / "lm")
