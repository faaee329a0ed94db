"""The presets of the paper build at any size, and their parameters are the paper's but for what is named."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.config import load_config
from pipeline.evaluation.flops import num_parameters
from pipeline.models.shapes import shapes

PRESETS = Path(__file__).parents[3] / "jobs" / "presets" / "paper"
PUBLISHED = {  # arXiv 2408.00655, its table; 1.3B-H4 has none
    "opt-125m-h1": 214e6,
    "opt-125m-h2": 226e6,
    "opt-125m-h4": 250e6,
    "opt-350m-h1": 429e6,
    "opt-350m-h2": 450e6,
    "opt-350m-h4": 492e6,
    "opt-1.3b-h1": 1.61e9,
    "opt-1.3b-h2": 1.69e9,
}
OPT = {"opt-125m": 125_239_296, "opt-350m": 331_196_416, "opt-1.3b": 1_315_758_080}  # as released


def test_there_are_nine():
    names = {f"{trunk}-h{layers}" for trunk in OPT for layers in (1, 2, 4)}
    assert {path.stem for path in PRESETS.glob("*.yaml")} == names


@pytest.mark.parametrize("name", [*sorted(PUBLISHED), "opt-1.3b-h4"])
def test_parameters(name):
    config = load_config(str(PRESETS / f"{name}.yaml"))
    built = shapes(config)
    trunk, hidden = built.sllm.trunk.config, built.vae.config.hidden_size
    assert num_parameters(built.lm) == OPT[name.rpartition("-")[0]]
    assert all(parameter.is_meta for parameter in built.sllm.parameters())
    # docs/models.md: what the paper counts and we leave out, or the other way round.
    width = config.trunk.config["word_embed_proj_dim"]
    projections = 2 * width * hidden if width != hidden else 0
    papers = (
        num_parameters(built.sllm)
        + (2 * width - hidden) * trunk.vocab_size + projections  # embeddings of trunk and of VAE, as wide as OPT's
        + config.vae.num_layers * 2 * (hidden**2 + hidden)  # queries and keys over a single vector
        + hidden + 1  # a stop flag of two logits
        - hidden  # our start vector
    )  # fmt: skip
    if name in PUBLISHED:
        digits = 1e6 if PUBLISHED[name] < 1e9 else 1e7
        assert round(papers / digits) == round(PUBLISHED[name] / digits)


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_dry_run(preset):
    result = CliRunner().invoke(app, ["run", str(preset), "--dry-run"])
    assert result.exit_code == 0, result.output
    tree = yaml.safe_load(result.stdout)
    assert tree["vae"]["num_layers"] == int(preset.stem[-1])
    assert tree["trunk"]["path"] == f"facebook/{preset.stem[:-3]}"
