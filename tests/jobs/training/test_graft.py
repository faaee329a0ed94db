"""A SentenceVAE grafted onto a tiny Llama in a GGUF file: three stages, a control, one table; nothing trained twice."""

import json
from pathlib import Path

import pytest
import torch

from jobs.training import graft
from jobs.verbs import VERBS
from pipeline.config import load_config, override
from pipeline.errors import ConfigError
from pipeline.fetched import local_model
from pipeline.lineage import read_record
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import load_causal_lm
from pipeline.models.trunk import empty_trunk, load_layers
from tests.pipeline.gguf_files import TEXTS, write_gguf

PRESET = Path(graft.__file__).parents[1] / "presets" / "graft.yaml"


@pytest.fixture(scope="module")
def config(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("graft")
    write_gguf(folder / "tiny.gguf")
    rows = [{"id": f"{i}", "text": "".join(TEXTS[i % 2 :]) * (1 + i % 4)} for i in range(40)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    train = [
        f"{name}.train.{key}"
        for name in ("vae", "sllm")
        for key in ("micro_batch_tokens=256", "eval_every=4", "warmup_steps=2")
    ]
    return load_config(
        str(PRESET),
        [
            f"tracking.uri=sqlite:///{folder}/mlflow.db", f"trunk.path={folder}/tiny.gguf", "data.dev_fraction=0.2",
            f"data.inputs=['{folder}/text.jsonl']", f"output={folder}/out", f"stream.cache={folder}/cache",
            "prepare.num_workers=1", "graft.tokens=3000", "graft.decoder_layers=2", "graft.controls=[fresh-trunk]",
            "vae.loss_vocabulary=32", *train,
        ],
    )  # fmt: skip


def test_three_stages_a_control_and_one_table(config, capfd):
    record = graft.run(config)
    output = Path(str(config.output))
    report = (output / "report" / graft.MARKDOWN_FILE).read_text()
    assert "tiny.gguf" in report and "layers 0, 1 of the model" in report
    assert report.count("| grafted |") > 2 and "control: trunk from fresh weights" in report
    for name in graft.PLOT_FILES:
        assert (output / "report" / name).stat().st_size > 0
    assert {
        "grafted/lm/bits_per_byte",
        "grafted/sllm/bits_per_byte",
        "fresh-trunk/sllm/bits_per_byte",
    } <= set(record.metrics)
    assert "control: trunk" in capfd.readouterr().out

    # The first stage of the SLLM leaves the trunk as it is in the file, the second changes it, and not the embedding.
    model = load_causal_lm(local_model(str(config.trunk.path), config.stream.cache))
    trunk = empty_trunk(model.config)
    load_layers(trunk, model)
    frozen, last = (saved_model(str(output / name), Sllm, "sllm") for name in ("sllm-frozen-trunk", "sllm"))
    for name, weight in trunk.state_dict().items():
        assert torch.equal(weight, frozen.trunk.state_dict()[name])
    changed = [
        not torch.equal(weight, last.trunk.state_dict()[name]) for name, weight in trunk.state_dict().items()
    ]
    assert any(changed)
    assert torch.equal(last.vae.embedding.weight, model.get_input_embeddings().weight)

    finished = {
        name: read_record(output / name).finished for name in ("vae", "sllm", "fresh-trunk-sllm", "report")
    }
    graft.run(config)
    assert finished == {name: read_record(output / name).finished for name in finished}


def test_it_is_a_verb_and_says_what_it_needs(config):
    assert VERBS["graft"].load() is graft
    for missing in ({"output": None}, {"trunk.path": None}, {"data.inputs": []}):
        with pytest.raises(ConfigError, match="graft needs"):
            graft.run(override(config, missing))
