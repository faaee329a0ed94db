"""A mismatch is one error line of ours before work: no run is started, and no output is left."""

import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jobs import compare, evaluate, prepare
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.errors import ModelError, ShardError, SllmError
from pipeline.evaluation.cost import costs, machine
from pipeline.tokenization.tokenizer import Tokenizer
from tests.jobs.runner.small_models import TEXT, config

JOBS = {"train-lm": train_lm, "train-vae": train_vae, "train-sllm": train_sllm}


@pytest.fixture(scope="module")
def hub_model(root):
    """A model that another program made, with a tokenizer of the same size but other ids."""
    folder = root / "hub"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=300, **shape))
    model.save_pretrained(folder)
    Tokenizer.train([TEXT[::-1]] * 10 + ["Other words, in another order."] * 9, 300).save(folder)
    vocab = Tokenizer.load(str(folder)).vocab_size
    assert vocab <= Tokenizer.load(str(root / "shards" / "tokenizer")).vocab_size == 300
    return folder


SHAPE = "trunk.config={model_type: llama, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2}"


OTHER = "another tokenizer than the shards"


def test_a_trunk_of_another_tokenizer_is_refused_by_every_verb(refused, root, hub_model):
    trunk, model = [f"trunk.path={hub_model}", SHAPE], [f"models.lm={hub_model}", SHAPE]
    vae = f"models.vae={root}/vae"
    refused(train_lm, *trunk, error=ModelError, match=OTHER)
    refused(train_vae, *trunk, error=ModelError, match=OTHER)
    refused(train_sllm, *trunk, vae, "sllm.trunk_from=path", error=ModelError, match=OTHER)
    refused(train_lm, *model, error=ModelError, match=OTHER)
    refused(train_vae, *model, error=ModelError, match=OTHER)
    refused(train_sllm, *model, vae, error=ModelError, match=OTHER)
    refused(evaluate, *model, error=ModelError, match=OTHER)


def test_plan_and_a_trunk_alone_are_refused_too(root, hub_model):
    tree = config(root, "out").model_copy(update={"trunk": load_config(None, []).trunk})
    tree = tree.model_copy(update={"trunk": tree.trunk.model_copy(update={"path": str(hub_model)})})
    for call in (
        lambda: train_lm.run(tree),
        lambda: train_vae.run(tree),
        lambda: costs(tree, machine(1, "cpu", None, 0.5), 10),
    ):
        with pytest.raises(ModelError, match=OTHER):
            call()
    assert not (root / "out").exists()


def test_the_models_own_tokenizer_is_taken_and_none_is_said(root, hub_model, caplog, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(hub_model, own)
    shutil.copytree(root / "shards" / "tokenizer", own, dirs_exist_ok=True)
    tree = config(root, "own", f"models.lm={own}", "lm.train.steps=1", SHAPE)
    assert train_lm.run(tree).finished and not caplog.text
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own / name).unlink()
    train_vae.run(config(root, "own-vae", f"models.lm={own}", "vae.train.steps=1"))
    assert "not compared: there is no tokenizer in its folder" in caplog.text


@pytest.mark.parametrize(
    ("verb", "override", "match"),
    [
        ("train-lm", "trunk.config.vocab_size=100", "vocabulary of 100, the shards' tokenizer 300"),
        ("train-lm", "trunk.config.num_attention_heads=3", "multiple of the number of attention heads"),
        ("train-lm", "trunk.config.num_key_value_heads=3", "cannot run"),
        ("train-lm", "trunk.config.model_type=lama", "unknown; near are llama"),
        ("train-lm", "trunk.config.model_type=[1]", "unknown"),
        ("train-lm", "trunk.config.hidden_act=zzz", "zzz"),
        ("train-lm", "trunk.config.num_hidden_layers=-1", "at least 1"),
        ("train-lm", "trunk.config.hidden_size=0", "hidden_size|trunk.config"),
        ("train-lm", "trunk.config.hidden_size=wide", "hidden_size"),
        ("train-lm", "trunk.config.initializer_range=.nan", ""),
        ("train-lm", "trunk.config.max_position_embeddings=8", "8 positions, lm.context_tokens is 64"),
        ("train-lm", "trunk.attention=none_such", "none_such"),
        ("train-lm", "trunk.path=/no/where", "no model at /no/where"),
        ("train-lm", "models.lm=/no/where", "no model at /no/where"),
        ("train-vae", "vae.num_heads=5", r"multiple of vae\.num_heads"),
        ("train-vae", "vae={block: llama, num_heads: 32}", "even size"),
        ("train-vae", "vae.ffn_multiplier=0.001", "is no width"),
        ("train-vae", "trunk.config.num_attention_heads=3", "attention heads"),
        ("train-sllm", "models.vae=/no/where", "no model at /no/where"),
        ("train-sllm", "sllm.context_attention_heads=5", "must divide"),
        ("train-sllm", "sllm.context_sentences=500", "too few for"),
        ("train-sllm", "sllm={context_sentences: 8, train_trunk: ends}", "are all 2 layers"),
        ("train-sllm", "sllm.trunk_from=path", "needs trunk.path"),
    ],
)
def test_a_plain_mistake_is_refused_before_work(refused, root, verb, override, match):
    models = [f"models.lm={root}/lm", f"models.vae={root}/vae"] if verb == "train-sllm" else []
    if match == "":
        with pytest.raises(SllmError):  # found by the library or by the loss; one line in both cases
            JOBS[verb].run(config(root, "out", override))
        shutil.rmtree(root / "out", ignore_errors=True)
        return
    refused(JOBS[verb], *models, override, match=match)


def test_compare_checks_all_designs_before_it_trains_one(refused):
    good = "a: {title: A, stages: {train-lm: 1}}"
    bad = "b: {title: B, stages: {train-lm: 1}, overrides: {trunk.config.num_key_value_heads: 3}}"
    refused(compare, f"compare.variants={{{good}, {bad}}}", match=r"compare\.variants\.b: .*cannot run")


def test_shards_without_training_text_are_refused(root, tmp_path):
    made = config(root, "shards", f"output={tmp_path}/dev", f'data.dev_inputs=["{root}/corpus.jsonl"]')
    made = made.model_copy(update={"data": made.data.model_copy(update={"inputs": ()})})
    prepare.run(
        made.model_copy(update={"tokenizer": load_config(None, [f"tokenizer.path={root}/lm"]).tokenizer})
    )
    with pytest.raises(ShardError, match="no text to train on"):
        train_lm.run(config(root, "out", f"shards={tmp_path}/dev"))


def test_a_manifest_that_its_job_did_not_write_is_refused(refused, root, tmp_path):
    """Also one that can be read: a flipped bit in a count would change what bits per byte are divided by."""
    shards = tmp_path / "shards"
    shutil.copytree(root / "shards", shards)
    manifest = (shards / "manifest.json").read_text()
    changed = manifest.replace('"tokens":', '"tokens": ', 1)
    assert changed != manifest
    (shards / "manifest.json").write_text(changed)
    for job in (train_lm, evaluate):
        refused(job, f"shards={shards}", f"models.lm={root}/lm", error=ShardError, match="damaged or changed")
