"""`sllm reproduce`: small configurations of a paper, trained and scored as its code does and exactly."""

import json
import time
from typing import Any

import torch

from infra.model_workers import on_one_worker
from infra.storage import Folder
from infra.tracking.run import ActiveRun
from jobs.reproduction.report import markdown, plot
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output.folder import check_new, output_folder
from jobs.runner.progress import time_left
from jobs.runner.several_jobs import several_jobs
from jobs.runner.training import shards_artifact
from jobs.verbs import VERBS
from pipeline.config import Config
from pipeline.config.paths import joined
from pipeline.errors import ConfigError
from pipeline.evaluation.published.reproduction import TRAINING_RULES, reproduce, text_read
from pipeline.evaluation.published.rules import RULES
from pipeline.lineage import JobRecord
from pipeline.output_files import REPORT_FOLDER
from pipeline.printable import printable
from pipeline.shards.reading import open_shards

JSON_FILE, MARKDOWN_FILE, PLOT_FILES = (
    "reproduction.json",
    "reproduction.md",
    ("reproduction.png", "reproduction.svg"),
)


def run(config: Config, force: bool = False) -> JobRecord:
    """Train and score the configurations of `config.reproduce` into `config.output`; table, plot, JSON.

    Without `config.shards` they are prepared in a folder below the output. Raises `ConfigError` where the output or the
    configurations are not named, or where shards were not cut by the rule of the paper.
    """
    output = output_folder(config.output, "reproduce needs output=FOLDER")
    if not config.reproduce.sizes:
        raise ConfigError("reproduce needs reproduce.sizes: begin with the preset sentencevae")
    _check_names(config)
    if config.shards is None:
        _check_segmenter(config.segmenter.name)
    report = joined(output, REPORT_FOLDER)
    check_new(report, "report", (), force)
    jobs = ["reproduce"] if config.shards is not None else ["prepare", "reproduce"]
    with several_jobs("reproduce", config, jobs) as command:
        if config.shards is None:
            shards = joined(output, "shards")
            VERBS["prepare"].load().run(config.model_copy(update={"output": shards}), force=force)
            config = config.model_copy(update={"shards": shards})
        record = _reproduce(config, report, force)
        if command.run is not None:
            command.run.log_metrics(record.metrics)
    print(printable((Folder(report).read(MARKDOWN_FILE) or b"").decode()))
    return record


def _check_names(config: Config) -> None:
    """Raise `ConfigError` where `reproduce.only` or `reproduce.rules_alone` names no configuration."""
    options = config.reproduce
    known = options.model_copy(update={"only": ()}).names
    for key in ("only", "rules_alone"):
        for name in getattr(options, key):
            if name not in known:
                raise ConfigError(
                    f"reproduce.{key}: {name} is no configuration; there are {', '.join(known)}"
                )


def _check_segmenter(name: str) -> None:
    """Raise `ConfigError` for a rule that is not the paper's: what its code reads would not be known."""
    if name != "reference_v1":
        raise ConfigError(
            f"the paper cuts sentences by another rule than {name}: set segmenter.name=reference_v1"
        )


def _reproduce(config: Config, output: str, force: bool) -> JobRecord:
    if not isinstance(config.shards, str):
        raise ConfigError("reproduce needs one shards=FOLDER, or none: then it prepares data.inputs")
    _check_segmenter(open_shards(config.shards, config.stream).manifest.segmenter["name"])

    def body(run: ActiveRun) -> dict[str, float]:
        return _report(config, run.output)

    return run_job(
        "reproduce",
        config,
        sections=[
            "reproduce", "evaluate", "trunk", "lm", "vae", "sllm", "precision", "stream.block_tokens",
            "stream.packing_pool_windows",
        ],
        inputs=[shards_artifact(config.shards, config.stream)],
        output=output,
        output_kind="report",
        body=body,
        beside=["shards", "launcher", "ray"],
        force=force,
        replace_other=True,
    )  # fmt: skip


def _report(config: Config, output: str) -> dict[str, float]:
    options = config.reproduce
    read = text_read(config)
    rows: list[dict[str, Any]] = []
    began, total = time.monotonic(), len(options.names)
    for item in on_one_worker(config, reproduce):
        if isinstance(item, str):
            say(f"reproduce: {item}{time_left(began, len(rows), total)} ...")
        else:
            rows.append(item)
    setting = {
        "tokens": options.tokens,
        "seeds": [config.lm.train.seed, config.vae.train.seed, config.sllm.train.seed],
        "rules": RULES,
        "training_rules": TRAINING_RULES,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "seconds": round(time.monotonic() - began),
        **read,
    }
    folder = Folder(output)
    folder.write(JSON_FILE, f"{json.dumps({'setting': setting, 'rows': rows}, indent=2)}\n".encode())
    folder.write(MARKDOWN_FILE, markdown(rows, setting).encode())
    for name in PLOT_FILES:
        folder.write(name, plot(rows, name.rpartition(".")[2]))
    return {
        f"{row['name']}/{way}/{counted}": figures[counted]
        for row in rows
        for way, figures in (("vae", row["vae"]), *row["sllm"].items())
        for counted in ("exact", "published")
    }
