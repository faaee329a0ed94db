"""A mismatch is one error line of ours before work: no run is started, and no output is left."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from infra.mlflow_store import client_of
from jobs import compare, evaluate, generate, prepare, train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError, ShardError, SllmError
from pipeline.evaluation.cost import costs, machine
from pipeline.tokenization.tokenizer import Tokenizer

TRAIN = "{steps: 2, micro_batch_tokens: 256, micro_batches_per_step: 1}"
JOBS = {"train-lm": train_lm, "train-vae": train_vae, "train-sllm": train_sllm}
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


@pytest.fixture(scope="module")
def root(tmp_path_factory, empty_store):
    """A folder with shards, a corpus, an empty store, and one small model of each kind."""
    root = tmp_path_factory.mktemp("checks")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(60)]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(empty_store, root / "mlflow.db")
    prepare.run(config(root, "shards", "tokenizer.vocab_size=300"))
    train_lm.run(config(root, "lm"))
    train_vae.run(config(root, "vae", f"models.lm={root}/lm"))
    train_sllm.run(config(root, "sllm", f"models.lm={root}/lm", f"models.vae={root}/vae"))
    return root


def config(root, output, *overrides):
    given = [
        *(f"output={root / output}", f"tracking.uri=sqlite:///{root}/mlflow.db", "launcher=local"),
        *(f'data.inputs=["{root}/corpus.jsonl"]', "data.dev_fraction=0.2", "prepare.num_workers=1"),
        *("lm.context_tokens=64", "sllm.context_sentences=8", "trunk.config.hidden_size=32"),
        *(f"lm.train={TRAIN}", f"vae.train={TRAIN}", f"sllm.train={TRAIN}"),
    ]
    if output != "shards":
        given.append(f"shards={root}/shards")
    return load_config(None, [*given, *overrides])


def runs(root):
    client = client_of(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("sllm")
    return len(client.search_runs([experiment.experiment_id]))


@pytest.fixture
def refused(root):
    """Assert that a job is refused with one of our errors, without a run or an output -> the message."""

    def check(module, *overrides, error=SllmError, match=""):
        before = runs(root)
        with pytest.raises(error, match=match):
            module.run(config(root, "out", *overrides))
        assert runs(root) == before
        assert not (root / "out").exists()

    return check


@pytest.fixture(scope="module")
def hub_model(root):
    """A model from elsewhere with a tokenizer of the same size but other ids."""
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


def damage(kind, folder):
    file, weights = folder / "config.json", folder / "model.safetensors"
    tree = json.loads(file.read_text())
    if kind == "config cut short":
        file.write_text(file.read_text()[:40])
    elif kind == "config of another kind":
        file.write_text("[1]")
    elif kind == "config with a wrong type":
        key = "num_hidden_layers" if "num_hidden_layers" in tree else "context_sentences"
        key = "num_layers" if "num_layers" in tree else key
        file.write_text(json.dumps({**tree, key: "many"}))
    elif kind == "config with another width":
        file.write_text(json.dumps({**tree, "hidden_size": 64, "context_sentences": -1}))
    elif kind == "config with a billion layers":
        of_trunk = tree.get("trunk_config", tree)
        of_trunk["num_layers" if "num_layers" in of_trunk else "num_hidden_layers"] = 10**9
        file.write_text(json.dumps(tree))
    elif kind == "no config":
        file.unlink()
    elif kind == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "weights empty":
        weights.write_bytes(b"")
    else:
        tensors = load_file(weights)
        name = sorted(name for name in tensors if tensors[name].ndim == 2)[-1]
        tensors[name] = torch.zeros(3, 3)
        if kind == "a weight is missing":
            del tensors[name]
        save_file(tensors, weights, metadata={"format": "pt"})


DAMAGES = (
    *("config cut short", "config of another kind", "config with a wrong type", "config with another width"),
    *("no config", "weights cut short", "no weights", "weights empty", "a weight is missing"),
    *("a weight of another shape", "config with a billion layers"),
)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("model", ["lm", "vae", "sllm"])
def test_a_damaged_model_is_refused(root, tmp_path, kind, model):
    """By one of our errors, whatever reads it; and never filled up with random weights."""
    folder = tmp_path / "model"
    shutil.copytree(root / model, folder, ignore=shutil.ignore_patterns("checkpoints", "job.json", ".lock"))
    damage(kind, folder)
    users = {
        "lm": [(train_vae, []), (evaluate, []), (train_lm, [])],
        "vae": [(train_sllm, [f"models.lm={root}/lm"]), (evaluate, []), (train_vae, [])],
        "sllm": [(generate, []), (evaluate, []), (train_sllm, [])],
    }
    for index, (module, more) in enumerate(users[model]):
        output = f"out-{index}"
        with pytest.raises(SllmError):
            module.run(config(root, output, f"models.{model}={folder}", *more))
        left = [path.name for path in (root / output).glob("*") if path.name not in (".lock", "job.json")]
        assert not left
        shutil.rmtree(root / output, ignore_errors=True)


def test_generate_refuses_an_exchanged_tokenizer(root, tmp_path):
    folder = tmp_path / "sllm"
    shutil.copytree(root / "sllm", folder, ignore=shutil.ignore_patterns("checkpoints", "job.json", ".lock"))
    Tokenizer.train([TEXT[::-1]] * 10, 300).save(folder)
    with pytest.raises(ModelError, match="not the one that the model was trained with"):
        generate.run(config(root, "out", f"models.sllm={folder}"))
    assert not (root / "out").exists()


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


def test_a_tokenizer_without_bos_and_eos_is_refused_by_prepare_with_a_remedy_that_works(root, tmp_path):
    own = tmp_path / "tokenizer"
    Tokenizer.load(str(root / "lm")).save(own)
    (own / "tokenizer_config.json").write_text("{}")
    given = [f"output={tmp_path}/shards", f"tokenizer.path={own}"]
    with pytest.raises(ConfigError, match=r"neither BOS nor EOS.*tokenizer\.bos_token=TOKEN"):
        prepare.run(config(root, "shards", *given))
    with pytest.raises(ConfigError, match=r"bos_token '<none>' is no token of its vocabulary"):
        prepare.run(config(root, "shards", *given, "tokenizer.bos_token=<none>"))
    assert not Path(f"{tmp_path}/shards").exists()
    named = [*given, "tokenizer.bos_token=<pad>", "tokenizer.eos_token=<eos>"]
    record = prepare.run(config(root, "shards", *named))
    assert record.config["tokenizer"] | {"bos_token": "<pad>"} == record.config["tokenizer"]
    assert train_lm.run(config(root, "named", f"shards={tmp_path}/shards")).finished
    assert Tokenizer.load(str(root / "named")).bos_id == 0
    # The same tokenizer with another BOS is another one: for the output, for models, for shards beside it.
    (own / "tokenizer_config.json").write_text('{"bos_token": "<bos>", "eos_token": "<eos>"}')
    with pytest.raises(SllmError, match=r"BOS and EOS|bos_token was '<pad>'"):
        prepare.run(config(root, "shards", *given))
    with pytest.raises(ModelError, match="its BOS has id 0, there 1"):
        train_vae.run(config(root, "out", f"models.lm={root}/named"))
    with pytest.raises(ShardError, match="different tokenizers"):
        train_lm.run(config(root, "out", f"shards=[{root}/shards, {tmp_path}/shards]"))
    assert not (root / "out").exists()


def test_a_changed_bos_of_the_same_path_is_noticed(root, tmp_path):
    own = tmp_path / "tokenizer"
    Tokenizer.load(str(root / "lm")).save(own)
    given = [f"output={tmp_path}/shards", f"tokenizer.path={own}"]
    prepare.run(config(root, "shards", *given))
    tree = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps({**tree, "bos_token": "<pad>"}))
    with pytest.raises(ShardError, match="ids 1 and 2; the tokenizer now has 0 and 2"):
        prepare.run(config(root, "shards", *given))
    # Beside the shards too; those of a version that did not say are read as before.
    beside = tmp_path / "shards" / "tokenizer" / "tokenizer_config.json"
    beside.write_text(json.dumps({**tree, "bos_token": "<pad>"}))
    with pytest.raises(ShardError, match=r"made with BOS and EOS of ids \(1, 2\)"):
        train_lm.run(config(root, "out", f"shards={tmp_path}/shards"))
    manifest = tmp_path / "shards" / "manifest.json"
    old = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "bos_eos"}
    manifest.write_text(json.dumps(old))
    assert train_lm.run(config(root, "old", f"shards={tmp_path}/shards")).finished


@pytest.mark.parametrize("named_in", ["special_tokens_map.json", "config.json"])
def test_bos_and_eos_are_found_where_older_models_name_them(root, tmp_path, named_in):
    tokenizer = Tokenizer.load(str(root / "lm"))
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    named = {"special_tokens_map.json": {"bos_token": {"content": "<eos>"}, "eos_token": "<eos>"}}
    named["config.json"] = {"bos_token_id": 2, "eos_token_id": [2, 1]}
    (tmp_path / named_in).write_text(json.dumps(named[named_in]))
    found = Tokenizer.load(str(tmp_path))
    assert (found.bos_id, found.eos_id) == (2, 2)
