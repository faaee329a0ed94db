"""`sllm graft`: a SentenceVAE grafted onto a pretrained language model, scored against that model and controls.

Shards, models and evaluations are jobs in folders below `output`, reused when they are finished and resumed when they
are not. Table and plot are a job in `output`/report.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.storage import Folder
from infra.tracking.curves import Curves
from infra.tracking.run import ActiveRun
from jobs.reports.evaluation import read_report
from jobs.reports.graft import Training, markdown, plot
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output.folder import artifact_at, output_folder
from jobs.runner.several_jobs import several_jobs
from jobs.runner.training import check_planned
from jobs.verbs import VERBS
from pipeline.config import Config, override
from pipeline.config.paths import joined
from pipeline.errors import ConfigError
from pipeline.evaluation.comparison import steps_for
from pipeline.evaluation.designs import model_of
from pipeline.evaluation.evaluate import Figures
from pipeline.fetched import local_model
from pipeline.lineage import JobRecord
from pipeline.models.grafting import grafting_options
from pipeline.models.model_folder import is_folder
from pipeline.output_files import MODEL_AND_TOKENIZER_FILES, REPORT_FOLDER
from pipeline.printable import printable
from pipeline.shards.reading import open_shards
from pipeline.training.task import TrainingJob, corpora, train_config

GRAFTED = "grafted"
JSON_FILE, MARKDOWN_FILE = "graft.json", "graft.md"
PLOT_FILES = ("graft.png", "graft.svg")
_CURVES = ("train/tokens", "dev/nll_per_token", "dev/token_accuracy")


@dataclass(frozen=True)
class Stage:
    """A training job of a model."""

    folder: str
    verb: TrainingJob
    tokens: float
    """Document tokens that it is trained on."""
    overrides: Mapping[str, object]


def run(config: Config, force: bool = False) -> JobRecord:
    """Train and score the grafted model and its controls into `config.output`.

    Raises `ConfigError` where output, trunk, or both shards and text are not named.
    """
    output = config.output
    if output is None or config.trunk.path is None:
        raise ConfigError("graft needs trunk.path=MODEL (a folder, GGUF file or hub name) and output=FOLDER")
    if not isinstance(config.shards, str) and not config.data.inputs:
        raise ConfigError(
            "graft needs data.inputs=[FILE, ...], or shards=FOLDER made with the model's tokenizer"
        )
    output_folder(output, "graft needs output=FOLDER")
    named, folder = config.trunk.path, local_model(config.trunk.path, config.stream.cache)
    config = config.model_copy(update={"trunk": config.trunk.model_copy(update={"path": folder})})
    config = override(config, grafting_options(config))
    say(f"graft: {named}; the decoder's layers start from {_start_of(config)}")
    plans = {name: _stages(config, name) for name in (GRAFTED, *config.graft.controls)}
    with several_jobs("graft", config, ["prepare", *plans, "report"]) as command:
        config = config.model_copy(update={"shards": _shards(config, force)})
        trained = {name: _train(name, plan, config, force) for name, plan in plans.items()}
        scores = {name: _evaluate(name, records, config, force) for name, records in trained.items()}
        record = _report(config, named, trained, scores, force)
        if command.run is not None:
            command.run.log_metrics(record.metrics)
    print(printable((Folder(joined(output, REPORT_FOLDER)).read(MARKDOWN_FILE) or b"").decode()))
    return record


def _start_of(config: Config) -> str:
    layers = config.vae.decoder_from_lm
    return "fresh weights" if layers is None else f"layers {', '.join(map(str, layers))} of the model"


def _stages(config: Config, name: str) -> list[Stage]:
    """The training jobs of a model; a folder with the same content as that of another model is shared."""
    total = sum(config.graft.shares)
    vae, frozen, lora = (config.graft.tokens * share / total for share in config.graft.shares)
    fresh: dict[str, object] = {"vae.decoder_from_lm": None} if name == "fresh-decoder" else {}
    own = "" if name == GRAFTED else f"{name}-"
    first = Stage(f"{own if fresh else ''}vae", "train-vae", vae, fresh)
    if name == "fresh-trunk":
        anew = {"sllm.trunk_from": "config", "sllm.train_trunk": "all"}
        return [first, Stage(f"{own}sllm", "train-sllm", frozen + lora, anew)]
    return [
        first,
        Stage(f"{own}sllm-frozen-trunk", "train-sllm", frozen, {**fresh, "sllm.train_trunk": "none"}),
        Stage(f"{own}sllm", "train-sllm", lora, {**fresh, "sllm.train_trunk": "lora"}),
    ]


def _shards(config: Config, force: bool) -> str:
    """The folder of the shards, prepared with the model's tokenizer where none is given."""
    if isinstance(config.shards, str):
        return config.shards
    path = config.tokenizer.path or config.trunk.path
    own = config.model_copy(
        update={
            "output": joined(str(config.output), "shards"),
            "tokenizer": config.tokenizer.model_copy(update={"path": path}),
        }
    )
    return VERBS["prepare"].load().run(own, force=force).output.path


def _train(name: str, plan: list[Stage], config: Config, force: bool) -> dict[str, JobRecord]:
    """Train the stages, each from what the one before it has made -> their records by folder."""
    records: dict[str, JobRecord] = {}
    models: dict[str, str | None] = {"lm": None, "vae": None, "sllm": None}
    for stage in plan:
        say(f"graft: {name}, {stage.folder}, {stage.tokens:,.0f} tokens")
        own = override(config, stage.overrides)
        own = own.model_copy(update={"models": own.models.model_copy(update=models)})
        reading = corpora(stage.verb, own, "train")
        steps = steps_for(reading, train_config(stage.verb, own), config.stream, stage.tokens)
        own = override(own, {f"{model_of(stage.verb)}.train.steps": steps})
        own = own.model_copy(update={"output": joined(str(config.output), stage.folder)})
        check_planned(stage.verb, own, force)
        records[stage.folder] = VERBS[stage.verb].load().run(own, force=force)
        models[model_of(stage.verb)] = records[stage.folder].output.path
    return records


def _evaluate(name: str, records: Mapping[str, JobRecord], config: Config, force: bool) -> JobRecord:
    """Score the SLLM; the grafted one with its ablations, beside its SentenceVAE and the pretrained model."""
    *_, last = records.values()
    models: dict[str, str] = {"sllm": last.output.path}
    if name == GRAFTED:
        models |= {"lm": _pretrained_folder(config), "vae": next(iter(records.values())).output.path}
    options = config.evaluate
    changes: dict[str, object] = {} if name == GRAFTED else {"ablations": False, "cache_tokens": 0}
    own = config.model_copy(update={"evaluate": options.model_copy(update=changes)})
    update = {"lm": None, "vae": None, **models}
    own = own.model_copy(
        update={
            "models": own.models.model_copy(update=update),
            "output": joined(str(config.output), f"evaluation-{name}"),
        }
    )
    return VERBS["evaluate"].load().run(own, force=force)


def _pretrained_folder(config: Config) -> str:
    """The folder of the pretrained model; of one on the hub that of the hub's cache on this machine."""
    path = str(config.trunk.path)
    if is_folder(path):
        return path
    from huggingface_hub import snapshot_download

    return snapshot_download(path, allow_patterns=[*MODEL_AND_TOKENIZER_FILES])


def _report(
    config: Config,
    named: str,
    trained: Mapping[str, Mapping[str, JobRecord]],
    scores: Mapping[str, JobRecord],
    force: bool,
) -> JobRecord:
    """The table and the plot, as one MLflow run."""
    totals = open_shards(str(config.shards), config.stream).manifest.totals["dev"]
    figures: dict[str, Figures] = {name: read_report(record.output.path) for name, record in scores.items()}
    curves = Curves(config.tracking.uri)
    stages = {folder: record for records in trained.values() for folder, record in records.items()}
    histories = {
        folder: curves.of(record.run_id, record.output.path, _CURVES) for folder, record in stages.items()
    }
    trainings = [
        Training(name, list(records), {folder: histories[folder] for folder in records})
        for name, records in trained.items()
    ]
    tokens = {
        name: sum(record.metrics["train/tokens"] for record in records.values())
        for name, records in trained.items()
    }
    setting = {
        "model": Path(named).name if Path(named).exists() else named,
        "decoder": _start_of(config),
        "tokens": tokens,
        "context_tokens": config.lm.context_tokens,
        "documents": min(totals.documents, config.evaluate.max_documents or totals.documents),
        "tokens_per_byte": totals.tokens / totals.num_bytes,
    }

    def body(run: ActiveRun) -> dict[str, float]:
        folder = Folder(run.output)
        tree = {"setting": setting, "figures": figures, "curves": histories}
        folder.write(JSON_FILE, f"{json.dumps(tree, indent=2)}\n".encode())
        folder.write(MARKDOWN_FILE, markdown(figures, trainings, setting).encode())
        for name in PLOT_FILES:
            folder.write(name, plot(figures, trainings, setting, name.rpartition(".")[2]))
        return {
            f"{name}/{model}/bits_per_byte": of_model["bits_per_byte"]
            for name, of_run in figures.items()
            for model, of_model in of_run.items()
            if "bits_per_byte" in of_model
        }

    return run_job(
        "graft",
        config,
        sections=["graft", "evaluate"],
        inputs=[artifact_at(record.output.path) for record in (*stages.values(), *scores.values())],
        output=joined(str(config.output), REPORT_FOLDER),
        output_kind="report",
        body=body,
        force=force,
        replace_other=True,
    )
