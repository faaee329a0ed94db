"""`sllm reproduce`: the preset at reduced sizes, from a corpus to tables and plots; a second run reuses all of it."""

import json
from pathlib import Path

import pytest

from jobs.reproduction import command
from jobs.reproduction.paper import SENTENCE_VAE, SLLM, TOKEN_LEVEL
from pipeline.config import load_config, override
from pipeline.errors import ConfigError
from pipeline.evaluation.published.rules import RULES, VAE_RULES

PRESET = Path(__file__).parents[3] / "jobs" / "presets" / "sentencevae.yaml"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


@pytest.fixture
def config(tmp_path, empty_store):
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here"} for i in range(40)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    small = [
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f'data.inputs=["{corpus}"]', "tokenizer.vocab_size=300",
        "prepare.num_workers=1", "data.dev_fraction=0.2", "reproduce.tokens=300", "evaluate.max_documents=4",
        "reproduce.only=[125M-H1]", f"output={tmp_path}/out",
    ]  # fmt: skip
    return load_config(str(PRESET), small)


def test_the_preset_at_reduced_sizes(config, capfd):
    record = command.run(config)
    report = Path(str(config.output), "report")
    tree = json.loads((report / command.JSON_FILE).read_text())
    (row,) = tree["rows"]
    assert row["name"] == "125M-H1" and row["vae"]["alone"].keys() == set(VAE_RULES)
    assert row["sllm"].keys() == {"exact", "published", "given", "means", "targets", "future"}
    for figures in row["sllm"].values():
        assert figures["alone"].keys() == figures["without"].keys() == set(RULES)
        assert min(figures["exact"], figures["published"], figures["bits_per_byte"]) > 0
    assert record.metrics["125M-H1/published/exact"] == row["sllm"]["published"]["exact"]
    assert 0 < tree["setting"]["share_read"] < 1  # each document ends without a mark
    for name in command.PLOT_FILES:
        assert (report / name).stat().st_size > 0
    printed = capfd.readouterr().out
    assert "| 125M-H1 | 3.60 |" in printed and "What each rule of the published training does" in printed
    command.run(config)
    assert capfd.readouterr().err.count("reuse ") == 2


def test_what_cannot_be_reproduced_is_refused_before_work(config):
    for changes, message in (
        ({"reproduce.only": ["125M-H3"]}, "125M-H3 is no configuration; there are 125M-H1"),
        ({"reproduce.sizes": {}}, "begin with the preset sentencevae"),
        ({"segmenter.name": "punctuation_v1"}, "segmenter.name=reference_v1"),
    ):
        with pytest.raises(ConfigError, match=message):
            command.run(override(config, changes))
    assert not Path(str(config.output)).exists()


def test_the_preset_has_the_papers_nine_configurations():
    options = load_config(str(PRESET)).reproduce
    assert options.names == list(SENTENCE_VAE) and options.sizes.keys() == TOKEN_LEVEL.keys()
    assert SLLM.keys() == SENTENCE_VAE.keys() - {"1.3B-H4"}
