"""A model in a GGUF file: its folder has the same weights within quantisation, the same tokens, and is made once."""

import sys
from pathlib import Path

import pytest
import torch

from pipeline import fetched
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError
from pipeline.fetched import local_model
from pipeline.models.model_folder import with_local_models
from pipeline.models.token_lm import load_causal_lm
from pipeline.models.tokenizer_agreement import difference
from pipeline.tokenization.tokenizer import Tokenizer
from tests.pipeline.gguf_files import write_gguf


def test_the_folder_has_the_weights_and_the_tokenizer_of_the_file(tmp_path, monkeypatch):
    file = tmp_path / "tiny.Q8_0.GGUF"
    model, tokenizer = write_gguf(file, pre="gpt-2")
    folder = local_model(str(file), str(tmp_path / "cache"))
    read = load_causal_lm(folder)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], weight, atol=0.01, rtol=0.01)
    assert read.config.rope_parameters["rope_theta"] == 5000.0
    assert read.get_input_embeddings().weight is read.get_output_embeddings().weight
    ids = torch.arange(40)[None]
    torch.testing.assert_close(read(ids).logits, model(ids).logits, atol=0.15, rtol=0)
    assert difference(Tokenizer.load(folder), tokenizer) is None
    monkeypatch.setattr(fetched, "write_plain_folder", None)  # it is made once
    config = load_config(None, [f"trunk.path={file}", f"stream.cache={tmp_path / 'cache'}"])
    assert with_local_models(config, ["trunk"]).trunk.path == folder


def test_the_spaces_before_a_number_are_as_the_file_names_it(tmp_path):
    """With each digit apart, the spaces before a number are one token where the vocabulary has one."""
    folders = []
    for pre in ("smollm", "gpt-2"):
        write_gguf(tmp_path / f"{pre}.gguf", pre=pre)
        folders.append(local_model(str(tmp_path / f"{pre}.gguf"), str(tmp_path / "cache")))
    apart, together = map(Tokenizer.load, folders)
    (one,), (other,) = apart.encode(["miles 345"]), together.encode(["miles 345"])
    assert [apart.decode([i]) for i in one.ids][-3:] == ["3", "4", "5"]
    assert len(other.ids) < len(one.ids)  # " 345" is one token of this vocabulary


def test_what_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    cache = str(tmp_path / "cache")
    with pytest.raises(ModelError, match="there is no file"):
        local_model(str(tmp_path / "missing.gguf"), cache)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ModelError, match=r"damaged\.gguf cannot be read: .*get the file again"):
        local_model(str(damaged), cache)
    assert not list(Path(cache, "models", "gguf").glob("[!.]*"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"pip install 'sllm\[graft\]'"):
        local_model(str(damaged), cache)
