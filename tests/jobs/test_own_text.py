"""A newcomer's own text with the demo's configuration: from a few kB on it runs, and what is too small is said."""

from pathlib import Path

import pytest

from jobs import run as whole_path
from jobs.runner.presets import preset_or_file
from pipeline.config import Config, load_config
from pipeline.errors import CorpusError
from pipeline.lineage import read_record

SENTENCES = "It rained all day in {}. The river rose, and nobody came. Then it stopped!\n\n"


def demo(text: Path, output: Path, tracking_uri: str, *overrides: str) -> Config:
    small = [
        *(f"{name}.train.{key}" for name in ("lm", "vae", "sllm") for key in ("steps=60", "eval_every=60")),
        *(f"{name}.train.micro_batches_per_step=1" for name in ("lm", "vae", "sllm")),
        *(
            "trunk.config.hidden_size=32",
            "trunk.config.intermediate_size=32",
            "trunk.config.num_hidden_layers=1",
        ),
    ]
    options = [
        *(f"data.inputs={text}", f"output={output}", f"tracking.uri={tracking_uri}", "launcher=local"),
        *("prepare.num_workers=1", "generate.max_tokens=20", *small, *overrides),
    ]
    return load_config(preset_or_file("demo"), options)


def test_a_text_of_5_kb_becomes_models_and_a_note_that_it_is_small(
    tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "my.txt"
    text.write_text("".join(SENTENCES.format(f"town {number}") for number in range(60)), encoding="utf-8")
    whole_path.run(demo(text, tmp_path / "out", tracking_uri))
    shown = " ".join(capsys.readouterr().out.split())
    assert "the corpus is small: training read its" in shown and "bits per byte: sllm " in shown
    record = read_record(tmp_path / "out" / "shards")
    assert (
        record is not None and record.metrics["dev/documents"] == 1 and record.metrics["train/documents"] > 5
    )


def test_a_text_that_is_too_small_is_refused_before_training(tmp_path: Path, tracking_uri: str) -> None:
    text = tmp_path / "my.txt"
    text.write_text(SENTENCES.format("town"), encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"the corpus is too small: of its 1 document, none is in the train split"
    ):
        whole_path.run(demo(text, tmp_path / "out", tracking_uri))
    assert not (tmp_path / "out" / "lm").exists()
