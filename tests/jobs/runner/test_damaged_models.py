"""A damaged model is refused by one of our errors, whatever job reads it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import evaluate, generate
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.errors import ModelError, SllmError
from pipeline.tokenization.tokenizer import Tokenizer
from tests.jobs.runner.small_models import TEXT, config


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
