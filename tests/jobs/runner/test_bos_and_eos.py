"""BOS and EOS of a tokenizer: found, set by the configuration, and part of its identity."""

import json
from pathlib import Path

import pytest

from jobs import prepare
from jobs.training import train_lm, train_vae
from pipeline.errors import ConfigError, ModelError, ShardError, SllmError
from pipeline.tokenization.tokenizer import Tokenizer
from tests.jobs.runner.small_models import config


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
    (tmp_path / "shards" / "job.json").unlink()  # it has the digest of the manifest
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
