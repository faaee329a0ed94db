"""Code in a model's folder is not run, and nobody is asked on the terminal, unless the configuration allows it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GPT2Config
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.config import TrunkConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.models.model_folder import load_model, read_config
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import load_causal_lm
from pipeline.models.tokenizer_agreement import tokenizer_beside
from pipeline.models.trunk import empty_model, pretrained_config
from pipeline.tokenization.tokenizer import Tokenizer

CODE = """
from pathlib import Path
Path(r"{mark}").write_text("")
from transformers import GPT2Config, GPT2LMHeadModel
class TheConfig(GPT2Config):
    model_type = "custom_code"
class TheModel(GPT2LMHeadModel):
    config_class = TheConfig
"""
CLASSES = {
    "AutoConfig": "code.TheConfig",
    "AutoModel": "code.TheModel",
    "AutoModelForCausalLM": "code.TheModel",
    "AutoTokenizer": ["code.TheTokenizer", "code.TheTokenizer"],
}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that the code makes; whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


@pytest.fixture
def folder(tmp_path, mark):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "code.py").write_text(CODE.format(mark=mark))
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": 20, "n_positions": 8}
    config = {"model_type": "custom_code", "auto_map": CLASSES, **sizes, "bos_token_id": 0, "eos_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "TheTokenizer", "auto_map": CLASSES})
    )
    return str(folder)


@pytest.fixture(scope="module")
def shards_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    (root / "a.txt").write_text("One sentence is here. Another one follows it. " * 50)
    given = [
        f"data.inputs=[{root}/a.txt]",
        "data.dev_fraction=0",
        "tokenizer.vocab_size=300",
        "launcher=local",
    ]
    tracking = f"tracking.uri=sqlite:///{root}/mlflow.db"
    result = CliRunner().invoke(app, ["prepare", *given, f"output={root}/out", tracking])
    assert result.exit_code == 0, result.output
    return root / "out"


LOADERS = {
    "read_config": read_config,
    "trunk.path": lambda path: pretrained_config(path, TrunkConfig(path=path)),
    "models.lm": load_causal_lm,
    "models.vae": lambda path: saved_model(path, SentenceVae, "vae"),
    "models.sllm": lambda path: saved_model(path, Sllm, "sllm"),
    "AutoModel": lambda path: load_model(AutoModel, path, "model"),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_models_code_is_refused(folder, mark, loader):
    with pytest.raises(
        ModelError, match=r"code of its own .*, which is not run: set trunk.trust_remote_code"
    ):
        LOADERS[loader](folder)
    assert not mark.exists()


def test_a_tokenizers_code_is_refused(folder, mark):
    with pytest.raises(ConfigError, match=r"code of its own \(auto_map\), which is never run"):
        Tokenizer.load(folder)
    assert tokenizer_beside(folder)[0] is None
    assert not mark.exists()


def test_a_configuration_builds_no_model_of_code(folder, mark):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    mark.unlink()
    with pytest.raises(ModelError):
        empty_model(AutoModelForCausalLM, config, "trunk.config")
    assert not mark.exists()


def test_code_that_the_configuration_allows_is_run(folder, mark):
    trunk = TrunkConfig(path=folder, trust_remote_code=True)
    assert type(pretrained_config(folder, trunk)).__name__ == "TheConfig"
    assert mark.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "trunk.path=FOLDER"],
        ["generate", "FOLDER", "output=OUT"],
        ["evaluate", "shards=SHARDS", "models.lm=FOLDER", "output=OUT"],
        ["train-lm", "shards=SHARDS", "models.lm=FOLDER", "output=OUT"],
        ["train-lm", "shards=SHARDS", "trunk.path=FOLDER", "output=OUT"],
        ["prepare", "data.inputs=[CORPUS]", "tokenizer.path=FOLDER", "output=OUT", "launcher=local"],
    ],
    ids=" ".join,
)
def test_each_verb_refuses_it_in_one_line(folder, mark, arguments, tmp_path, shards_folder):
    (tmp_path / "a.txt").write_text("One. Two.")
    names = {
        "FOLDER": folder,
        "SHARDS": shards_folder,
        "OUT": str(tmp_path / "out"),
        "CORPUS": str(tmp_path / "a.txt"),
    }
    given = []
    for argument in arguments:
        for name, value in names.items():
            argument = argument.replace(name, str(value))
        given.append(argument)
    result = CliRunner().invoke(app, given, input="y\n" * 9)
    assert result.exit_code == 2, result.output
    assert "has code of its own (auto_map" in result.stderr.splitlines()[-1]
    assert not mark.exists()


class Pickled:
    """Makes a file where it is unpickled as Python would."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_weights_is_not_run(tmp_path, mark):
    config = GPT2Config(
        n_layer=1, n_head=1, n_embd=8, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    config.save_pretrained(tmp_path / "lm")
    torch.save({"transformer.wte.weight": Pickled(mark)}, tmp_path / "lm" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no causal language model"):
        load_causal_lm(str(tmp_path / "lm"))
    assert not mark.exists()
    torch.load(tmp_path / "lm" / "pytorch_model.bin", weights_only=False)
    assert mark.exists()
