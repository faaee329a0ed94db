"""Designs side by side: trained on the same tokens, scored on the same documents, never trained twice."""

import json
import math
import shutil
from pathlib import Path

import pytest

from infra.registry.models import find_model
from infra.tracking.store import client_of
from jobs import compare, prepare
from pipeline.config import CompareConfig, load_config, override
from pipeline.errors import ConfigError
from pipeline.evaluation import training_flops
from pipeline.evaluation.designs import check_design
from pipeline.lineage import read_record
from pipeline.shards.reading import open_shards

TRAIN = "{micro_batch_tokens: 256, micro_batches_per_step: 1, eval_every: 50, checkpoint_every: 50}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "
VARIANTS = """{
  lm: {title: token-level, stages: {train-lm: 1}},
  paper: {title: the paper's, stages: {train-vae: 1, train-sllm: 2}, overrides: {sllm.trunk_from: config}},
  local: {title: context attention, stages: {train-sllm: 1}, changed_from: paper, overrides: {
    sllm.trunk_from: config, sllm.vae_from: config, vae.block: llama, vae.decoder_window: 16,
    vae.output_latent_scale: 0.1, vae.encoder_embedding: output, vae.encoder_layers: 0, vae.tie_word_embeddings: false,
    sllm.loss_sentences: 3, sllm.context_attention_heads: 2}}}"""


@pytest.fixture(autouse=True)
def few_flops_counted(monkeypatch):
    """Documents as short as these differ so much that the standard error would not be small before the last one."""
    monkeypatch.setattr(training_flops, "FEWEST_MICRO_BATCHES", 3)
    monkeypatch.setattr(training_flops, "MOST_MICRO_BATCHES", 6)


@pytest.fixture(scope="module")
def config(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("compare")
    corpus = folder / "corpus.jsonl"
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(60)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    base = [
        f"tracking.uri=sqlite:///{folder}/mlflow.db", f'data.inputs=["{corpus}"]', "launcher=local",
        "data.dev_fraction=0.2", "tokenizer.vocab_size=300", "prepare.num_workers=1", "lm.context_tokens=64",
        "sllm.context_sentences=8", f"lm.train={TRAIN}", f"vae.train={TRAIN}", f"sllm.train={TRAIN}",
        "compare.tokens=1500", "compare.generated_tokens=12", "compare.repeats=1", "compare.batch_sizes=[1, 3]",
        "compare.position_edges=[0, 16, 1000]", f"compare.variants={VARIANTS}", f"shards={folder}/shards",
        "compare.controls=[]",
    ]  # fmt: skip
    prepare.run(load_config(None, [*base, f"output={folder}/shards"]))
    return load_config(None, [*base, f"output={folder}/comparison"])


def test_one_table_and_plot_of_all_designs(config, capfd):
    record = compare.run(config)
    report = Path(str(config.output), "report")
    for name in (*compare.PLOT_FILES, compare.MARKDOWN_FILE):
        assert (report / name).stat().st_size > 0
    tree = json.loads((report / compare.JSON_FILE).read_text())
    variants = tree["variants"]
    assert variants.keys() == {"lm", "paper", "local"}
    for name, figures in variants.items():
        # The budget is of all stages together; each stage ends with the step that reaches its share.
        assert 1500 <= figures["training_tokens"] <= 1500 + 2 * 256, name
        assert math.isfinite(figures["bits_per_byte"]) and figures["training_flops"] > 0
        assert [speed["batch"] for speed in figures["speeds"]] == [1, 3]
        assert all(speed["tokens_per_second"] > 0 for speed in figures["speeds"])
        assert figures["generation_flops_per_token"] > 0
        assert len(figures["curve"]) == 2
    assert variants["paper"]["ablations"].keys() == {"zeroed", "shuffled", "oracle"}
    assert variants["local"]["ablations"].keys() == {"zeroed", "shuffled"}
    assert variants["lm"]["context_bytes_per_token"] == 4 * 2 * 2 * 128
    assert variants["local"]["window_bytes"] == 4 * 2 * 1 * 128 * 16
    assert record.metrics["lm/bits_per_byte"] == variants["lm"]["bits_per_byte"]
    found = find_model(
        f"runs:/{read_record(Path(str(config.output), 'lm', 'lm')).run_id}", config.tracking.uri
    )
    (metric,) = client_of(str(config.tracking.uri)).get_logged_model(found.model_id).metrics
    assert metric.key == "bits_per_byte" and metric.value == variants["lm"]["bits_per_byte"]
    assert metric.dataset_name == "shards"
    printed = capfd.readouterr().out
    assert "context attention" in printed and "One change at a time" in printed

    # Again: everything is reused, the variants' models are jobs with records of their own.
    compare.run(config)
    assert capfd.readouterr().err.count("reuse ") == 5
    model = read_record(Path(str(config.output), "paper", "sllm"))
    assert model is not None and model.job == "train-sllm" and model.finished


def test_only_the_designs_named(config, capfd):
    compare.run(config)
    capfd.readouterr()
    record = compare.run(override(config, {"compare.only": ["lm", "local"]}))
    printed = capfd.readouterr()
    assert record.metrics.keys() >= {"lm/bits_per_byte", "local/bits_per_byte"}
    assert "paper/bits_per_byte" not in record.metrics
    assert printed.err.count("reuse ") == 2  # the models; the report is made again
    assert "One change at a time" not in printed.out  # the design that it was changed from is not there
    with pytest.raises(ConfigError, match=r"nothing is no variant; there are lm, paper, local"):
        compare.run(override(config, {"compare.only": ["nothing"]}))
    # With a larger budget no design goes on from a smaller one: its learning rate would fall twice.
    with pytest.raises(ConfigError, match=r"lm/lm was planned with \d+ steps, and \d+ are needed now"):
        compare.run(override(config, {"compare.only": ["lm"], "compare.tokens": 3000}))


def test_controls_stand_beside_each_sentence_level_design(config, tmp_path, capfd):
    """All of them, with their own shards and tokens, and the ratios to each in the report."""
    changes = {"compare.only": ["lm", "local"], "compare.controls": list(CompareConfig().controls)}
    changes["compare.tokens"] = 6000
    compare.run(override(config, {**changes, "output": f"{tmp_path}/out", "compare.seeds": [3]}))
    tree = json.loads((tmp_path / "out" / "report" / compare.JSON_FILE).read_text())
    designs = tree["variants"]
    twins = [name for name in designs if name.startswith("twin-1-layers-8-chunks")]
    own = ["local-blind-chunks", "local-no-trunk-prediction", "local-no-context-attention"]
    assert designs.keys() == {"lm", "local", *twins, *own}
    assert designs["local"]["controls"] == [*twins, *own] and designs["lm"]["controls"] == []
    assert [designs[name]["kind"] for name in twins] == ["token-level"] * len(twins)
    # The second twin has as many training FLOPs as the design, within a step of training.
    flops = [designs[name]["training_flops"] for name in ("local", twins[-1])]
    assert flops[0] == pytest.approx(flops[1], rel=0.1)
    for name, figures in designs.items():
        assert sum(figures["nll_by_document"]) > 0 and math.isfinite(figures["cached_bits_per_byte"]), name
        assert figures["bits_by_seed"] == [figures["bits_per_byte"]]
        assert (tmp_path / "out" / name / "seed-3").is_dir()
    (blind,) = (tmp_path / "out").glob("blind-chunks-of-*")
    size, manifest = int(blind.name.rpartition("-")[2]), open_shards(str(blind)).manifest
    assert manifest.segmenter["name"] == "fixed_v1" and manifest.max_sentence_tokens == size
    whole = open_shards(str(config.shards)).manifest
    assert manifest.totals["dev"].tokens == whole.totals["dev"].tokens
    assert designs["local-no-trunk-prediction"]["parameters"] == designs["local"]["parameters"]
    assert "| design | control |" in capfd.readouterr().out


def test_seeds_are_averaged(config, tmp_path, capfd):
    changes = {"compare.only": ["lm"], "compare.seeds": [0, 1], "output": f"{tmp_path}/out"}
    compare.run(override(config, changes))
    figures = json.loads((tmp_path / "out" / "report" / compare.JSON_FILE).read_text())["variants"]["lm"]
    first, second = figures["bits_by_seed"]
    assert first != second and figures["bits_per_byte"] == pytest.approx((first + second) / 2)
    assert "mean over the seeds 0, 1" in capfd.readouterr().out


def test_blind_chunks_need_the_record_of_the_shards(config, tmp_path):
    shutil.copytree(str(config.shards), tmp_path / "shards")
    (tmp_path / "shards" / "job.json").unlink()
    changes = {
        "compare.controls": ["blind-chunks"],
        "shards": f"{tmp_path}/shards",
        "output": f"{tmp_path}/out",
    }
    with pytest.raises(ConfigError, match=r"leave blind-chunks out of compare\.controls"):
        compare.run(override(config, changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{a: {title: a, stages: {train-lm: 1}, overrides: {lm.contextt: 3}}}", "lm.context_tokens"),
        ("{a: {title: a, stages: {train-vae: 1}}}", "must end with"),
        ("{a: {title: a, stages: {train-sllm: 1}}}", "no token-level variant"),
        ("{a: {title: a, stages: {train-lm: 1}, changed_from: b}}", "is no variant"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_training(config, tmp_path, change, message):
    tree = config.model_dump(mode="json")
    tree["compare"]["variants"] = {}
    changed = load_config(
        None, [f"shards={config.shards}", f"output={tmp_path}/out", f"compare.variants={change}"]
    )
    with pytest.raises(ConfigError, match=message):
        compare.run(changed)
    assert not (tmp_path / "out").exists()


PRESETS = Path(__file__).parents[2] / "jobs" / "presets"


def test_the_preset_for_a_gpu_runs_at_reduced_sizes(config, tmp_path):
    """Its own variants, 24 wide, in bf16, for one or two steps each, on the small corpus."""
    small = [
        f"tracking.uri={config.tracking.uri}", f"shards={config.shards}", f"output={tmp_path}/out",
        "trunk.config.hidden_size=24", "trunk.config.intermediate_size=32", "compare.tokens=200",
        "compare.generated_tokens=4", "compare.repeats=1", "compare.batch_sizes=[1, 2]",
        "evaluate.max_documents=2", "evaluate.ablations=false", "compare.controls=[]",
        *(f"{stage}.train.micro_batch_tokens=2048" for stage in ("lm", "vae", "sllm")),
    ]  # fmt: skip
    reduced = load_config(str(PRESETS / "compare-gpu.yaml"), small)
    compare.run(reduced)
    tree = json.loads(Path(reduced.output, "report", compare.JSON_FILE).read_text())
    assert tree["variants"].keys() == reduced.compare.variants.keys()
    assert all(math.isfinite(each["bits_per_byte"]) for each in tree["variants"].values())


@pytest.mark.parametrize("name", ["report", "../x", "a/b", "."])
def test_a_design_whose_folder_would_be_anothers_is_refused(name):
    options = [
        f"compare.variants={{'{name}': {{title: a, stages: {{train-lm: 1}}}}}}",
        "shards=s",
        "output=o",
    ]
    with pytest.raises(ConfigError, match="cannot be the name of its folder"):
        compare.run(load_config(None, options))


def test_the_designs_of_the_preset_for_cpus_build_at_reduced_sizes(config):
    small = ["compare.overrides={trunk.config.hidden_size: 32}", f"shards={config.shards}"]
    reduced = load_config(str(PRESETS / "compare.yaml"), small)
    assert len(reduced.compare.variants) == 24
    for name in reduced.compare.variants:
        check_design(reduced, name, compare.DESIGN_PRESETS)
