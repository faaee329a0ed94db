"""`sllm compare`: designs trained on the same tokens, in one table and one plot.

The models of each variant are training jobs in folders below `output`, and reused when they are finished. Table and
plot are a job in `output`/report, which runs again for other variants or measurements.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from infra.cluster.worker_paths import with_absolute_paths
from infra.model_workers import on_one_worker
from infra.registry.models import with_model_folders
from infra.storage import Folder
from infra.tracking.run import ActiveRun
from jobs.reports.comparison import markdown
from jobs.reports.comparison_plot import plot
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output.folder import artifact_at, check_new, output_folder, record_at
from jobs.runner.progress import time_left
from jobs.runner.several_jobs import several_jobs
from jobs.runner.training import check_planned, shards_artifact
from jobs.verbs import VERBS
from pipeline.config import Config, Variant, load_config, override
from pipeline.config.paths import joined
from pipeline.errors import ConfigError
from pipeline.evaluation.comparison import DesignFigures, Measured, measure_designs, steps_for
from pipeline.evaluation.controls.variants import with_controls, with_seed
from pipeline.evaluation.designs import (
    TrainedDesign,
    baseline_of,
    check_design,
    check_variants,
    design_config,
    design_flops_per_token,
    model_of,
)
from pipeline.evaluation.likelihood import covering_edges, select_documents
from pipeline.lineage import JobRecord
from pipeline.models.device import CPU, NO_CUDA
from pipeline.output_files import RECORD_NAME, REPORT_FOLDER
from pipeline.printable import printable
from pipeline.shards.format import TOKENIZER_FOLDER
from pipeline.shards.reading import Shards, open_shards
from pipeline.training.task import corpora, train_config

JSON_FILE, MARKDOWN_FILE, PLOT_FILES = (
    "comparison.json",
    "comparison.md",
    ("comparison.png", "comparison.svg"),
)
DESIGN_PRESETS = Path(__file__).parent / "presets" / "designs"
"""Folder of the presets that a variant may name without a path."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Train `config.compare.variants` on `config.shards` into `config.output`; score, measure, report.

    Raises `ConfigError` where shards, output or designs are not named.
    """
    config = with_model_folders(config)
    if not isinstance(config.shards, str) or config.output is None or not config.compare.variants:
        raise ConfigError("compare needs one shards=FOLDER, output=FOLDER, and compare.variants")
    output_folder(config.output, "compare needs output=FOLDER")
    variants = check_variants(config, DESIGN_PRESETS)
    baseline = baseline_of(config, variants)
    for name, variant in variants.items():
        for verb in variant.stages:
            check_new(joined(config.output, name, model_of(verb)), "model", (), force)
    check_new(joined(config.output, REPORT_FOLDER), "report", (), force)
    shards = open_shards(config.shards, config.stream)
    if shards.documents("dev").num_documents == 0:
        raise ConfigError(
            f"{config.shards} has no dev split: prepare with data.dev_fraction or data.dev_inputs"
        )
    for name in variants:
        check_design(config, name, DESIGN_PRESETS)
    output = joined(config.output, REPORT_FOLDER)
    totals = shards.manifest.totals["train"]
    chunk = max(round(totals.tokens / totals.sentences), 1)
    blind = joined(config.output, f"blind-chunks-of-{chunk}")
    flops_per_token = partial(design_flops_per_token, presets=DESIGN_PRESETS)
    whole, variants, controls = with_controls(config, variants, DESIGN_PRESETS, chunk, blind, flops_per_token)
    needs_blind = any("shards" in variant.overrides for variant in variants.values())
    _check_controls(whole, variants, needs_blind)
    began = time.monotonic()
    runs = [(name, seed) for seed in config.compare.seeds or (None,) for name in variants]
    with several_jobs("compare", config, [*variants, "compare"]) as command:
        if needs_blind:
            _make_blind_shards(config, chunk, blind)
        designs = []
        for number, (name, seed) in enumerate(runs, 1):
            left = time_left(began, number - 1, len(runs))
            seeded = "" if seed is None else f", seed {seed}"
            say(f"compare: design {number} of {len(runs)}, {name}{seeded}{left}")
            designs.append(_train(name, seed, whole, force))
        record = _compare(config, shards, designs, baseline, controls, output, force)
        if command.run is not None:
            command.run.log_metrics(record.metrics)
    print(printable((Folder(output).read(MARKDOWN_FILE) or b"").decode()))
    return record


def _check_controls(config: Config, variants: Mapping[str, Variant], needs_blind: bool) -> None:
    """Raise `ConfigError` or `ModelError` where a control cannot be trained, before anything is."""
    if needs_blind and record_at(str(config.shards)) is None:
        raise ConfigError(
            f"{config.shards} has no {RECORD_NAME}, by which its documents could be cut into blind chunks: leave "
            "blind-chunks out of compare.controls"
        )
    for name, variant in variants.items():
        if "shards" not in variant.overrides:  # those are not there yet
            check_design(config, name, DESIGN_PRESETS)


def _make_blind_shards(config: Config, chunk_tokens: int, output: str) -> None:
    """The documents of `config.shards` in chunks of as many tokens, by `fixed_v1`.

    A chunk of that length ends for certain, so that its end costs no bits.
    """
    shards = str(config.shards)
    tokenizer = joined(shards, TOKENIZER_FOLDER)
    changes: dict[str, object] = {
        "segmenter": {"name": "fixed_v1", "options": {"num_tokens": chunk_tokens, "tokenizer": tokenizer}},
        "tokenizer.path": tokenizer,
        "prepare.max_sentence_tokens": chunk_tokens,
        "output": output,
    }
    own = override(load_config(joined(shards, RECORD_NAME)), changes)
    beside = {"tracking": config.tracking, "launcher": config.launcher, "ray": config.ray}
    VERBS["prepare"].load().run(own.model_copy(update=beside))


def _train(name: str, seed: int | None, config: Config, force: bool) -> TrainedDesign:
    """Train the stages of a design one after the other; each has its share of the token budget."""
    if seed is not None:
        config = with_seed(config, seed)
    variant = config.compare.variants[name]
    records: dict[str, JobRecord] = {}
    total = sum(variant.stages.values())
    for verb, share in variant.stages.items():
        own = design_config(config, name, DESIGN_PRESETS, records)
        tokens = (variant.tokens or config.compare.tokens) * share / total
        steps = steps_for(corpora(verb, own, "train"), train_config(verb, own), config.stream, tokens)
        own = override(own, {f"{model_of(verb)}.train.steps": steps})
        own = own.model_copy(
            update={"output": joined(str(config.output), *_folder(name, seed), model_of(verb))}
        )
        check_planned(verb, own, force)
        records[verb] = VERBS[verb].load().run(own, force=force)
    own = design_config(config, name, DESIGN_PRESETS, records)
    return TrainedDesign(name, variant, seed, own, records)


def _folder(name: str, seed: int | None) -> list[str]:
    return [name] if seed is None else [name, f"seed-{seed}"]


def _compare(
    config: Config,
    shards: Shards,
    designs: Sequence[TrainedDesign],
    baseline: str,
    controls: Mapping[str, Sequence[str]],
    output: str,
    force: bool,
) -> JobRecord:
    """Score and measure the trained designs, as one MLflow run."""

    data = shards_artifact(str(config.shards), config.stream)
    models = [artifact_at(each.folder) for each in designs]

    def body(run: ActiveRun) -> dict[str, float]:
        figures = {
            each.name: each for each in _report(config, shards, designs, baseline, controls, run.output)
        }
        seeds = {name: iter(each.bits_by_seed) for name, each in figures.items()}
        for design, model in zip(designs, models, strict=True):
            run.log_model_metrics(model, data, {"bits_per_byte": next(seeds[design.name])})
        return {f"{name}/bits_per_byte": each.bits_per_byte for name, each in figures.items()}

    return run_job(
        "compare",
        config,
        sections=["compare", "evaluate", "lm.context_tokens", "sllm.context_sentences"],
        inputs=[data, *models],
        output=output,
        output_kind="report",
        body=body,
        beside=["shards", "launcher", "ray"],
        force=force,
        replace_other=True,
    )


def _report(
    config: Config,
    shards: Shards,
    designs: Sequence[TrainedDesign],
    baseline: str,
    controls: Mapping[str, Sequence[str]],
    output: str,
) -> list[DesignFigures]:
    documents = select_documents(shards.documents("dev"), config.evaluate.max_documents)
    edges = covering_edges(documents, config.compare.position_edges)
    # A worker has another working folder.
    designs = [replace(each, config=with_absolute_paths(each.config)) for each in designs]
    measured: Measured | None = None
    began, measurements = time.monotonic(), len({each.name for each in designs}) + 1
    for number, item in enumerate(on_one_worker(config, measure_designs, edges, designs, controls)):
        if isinstance(item, Measured):
            measured = item
        else:
            left = time_left(began, number, measurements)
            say(f"compare: measurement {number + 1} of {measurements}, {item}{left} ...")
    assert measured is not None, "it is the last item"
    if config.ray.use_gpu and measured.device == CPU:
        say(f"compare: {NO_CUDA}")
    figures = measured.figures
    setting = {
        "tokens": config.compare.tokens,
        "seeds": list(config.compare.seeds),
        "cache_tokens": config.compare.cache_tokens,
        "baseline": baseline,
        "device": measured.device,
        "threads": measured.threads,
        "torch": measured.torch,
        "shards": shards.manifest.digest,
        "position_edges": edges,
        "generated_tokens": config.compare.generated_tokens,
        "documents": len(documents.num_bytes_N),
        "bytes": int(documents.num_bytes_N.sum()),
        "lossy_documents": shards.manifest.totals["dev"].lossy_documents,
    }
    tree = {"setting": setting, "variants": {each.name: each.as_dict() for each in figures}}
    folder = Folder(output)
    folder.write(JSON_FILE, f"{json.dumps(tree, indent=2)}\n".encode())
    folder.write(MARKDOWN_FILE, markdown(figures, setting).encode())
    for name in PLOT_FILES:
        folder.write(name, plot(figures, setting, name.rpartition(".")[2]))
    return figures
