"""`sllm evaluate`: the same dev documents under every model, in bits per byte."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from infra.tracking import ActiveRun
from jobs.execution import run_job
from jobs.place import output_folder
from jobs.training import shards_artifact
from pipeline.build import check_models, sllm_part
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation import (
    likelihood,
    reconstruction,
    select_documents,
    sllm_nll,
    token_lm_nll,
    unigram_nll,
)
from pipeline.lineage import JobRecord, artifact_of
from pipeline.lm import TokenLm, load_causal_lm
from pipeline.shards import Shards, open_shards
from pipeline.sllm import Ablation, Sllm
from pipeline.tokens import Tokenizer
from pipeline.vae import SentenceVae
from pipeline.window_batches import DocumentSource, SentenceWindows, TokenWindows

REPORT_FILE = "evaluation.json"

Report = dict[str, dict[str, float]]
"""Figures of each model, by name."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Score the models that `config.models` names on the dev split of `config.shards`; print a table."""
    if not isinstance(config.shards, str) or config.output is None:
        raise ConfigError(
            "evaluate needs one shards=FOLDER, output=FOLDER, and models.lm, models.vae or models.sllm"
        )
    output_folder(config.output, "evaluate needs output=FOLDER")
    models = [config.models.lm, config.models.vae, config.models.sllm]
    inputs = [
        shards_artifact(config.shards, config.stream),
        *(artifact_of(path) for path in models if path is not None),
    ]

    def check() -> None:
        check_models(config, open_shards(str(config.shards), config.stream))

    def body(run: ActiveRun) -> dict[str, float]:
        report = evaluate(config, open_shards(str(config.shards), config.stream))
        Path(run.output, REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
        return {
            f"{model}/{name}": value for model, figures in report.items() for name, value in figures.items()
        }

    record = run_job(
        "evaluate",
        config,
        sections=["evaluate", "lm.context_tokens"],
        inputs=inputs,
        output=config.output,
        output_kind="report",
        body=body,
        check=check,
        force=force,
    )
    print_report(read_report(config.output))
    return record


def evaluate(config: Config, shards: Shards) -> Report:
    """The figures; every model sees the same documents, and the whole of each."""
    whole = shards.documents("dev")
    if whole.num_documents == 0:
        raise ConfigError(
            f"{config.shards} has no dev split: prepare with data.dev_fraction or data.dev_inputs"
        )
    task = _Evaluation(
        config, shards, select_documents(whole, config.evaluate.max_documents), shards.tokenizer()
    )
    report: Report = {"unigram": task.unigram()}
    if config.models.lm is not None:
        report["lm"] = task.token_lm(config.models.lm)
    if config.models.vae is not None:
        report["vae"] = task.vae(config.models.vae)
    if config.models.sllm is not None:
        report |= task.sllm(config.models.sllm)
    return report


@dataclass(frozen=True)
class _Evaluation:
    config: Config
    shards: Shards
    documents: DocumentSource
    tokenizer: Tokenizer

    def unigram(self) -> dict[str, float]:
        nll_N = unigram_nll(self.shards.documents("train"), self.documents, self.tokenizer.vocab_size)
        return likelihood(self.documents, nll_N).as_dict()

    def token_lm(self, path: str) -> dict[str, float]:
        _say("token-level model")
        model = load_causal_lm(path, self.config.trunk)
        context = self.config.lm.context_tokens
        source = TokenWindows(self.documents, context, *self._marks(), overlap=context // 2)
        nll_N = token_lm_nll(TokenLm(model).to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return likelihood(self.documents, nll_N).as_dict() | {"parameters": model.num_parameters()}

    def vae(self, path: str) -> dict[str, float]:
        _say("SentenceVAE")
        model = sllm_part(path, SentenceVae, "vae")
        source = SentenceWindows(self.documents, self.config.sllm.context_sentences, *self._marks())
        figures = reconstruction(model.to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return figures.as_dict() | {"parameters": model.num_parameters()}

    def sllm(self, path: str) -> Report:
        model = sllm_part(path, Sllm, "sllm")
        model.to(_device())
        context = model.config.context_sentences
        source = SentenceWindows(
            self.documents, context, *self._marks(), context // 2, model.vae.decoder_reach
        )
        ablations: tuple[Ablation, ...] = (
            ("none", "zeroed", "shuffled") if self.config.evaluate.ablations else ("none",)
        )
        report: Report = {}
        for ablation in ablations:
            name = "sllm" if ablation == "none" else f"sllm_latents_{ablation}"
            _say(name)
            nll_N = sllm_nll(model, source, self.config.evaluate.micro_batch_tokens, ablation)
            report[name] = likelihood(self.documents, nll_N).as_dict() | {
                "parameters": model.num_parameters()
            }
        return report

    def _marks(self) -> tuple[int, int]:
        return self.tokenizer.bos_id, self.tokenizer.eos_id


def read_report(output: str) -> Report:
    """The figures that an evaluation wrote."""
    return json.loads(Path(output, REPORT_FILE).read_text())


def print_report(report: Report) -> None:
    """A table of likelihoods, and a line on reconstruction."""
    table = Table(title="Dev documents", title_justify="left")
    table.add_column("model")
    for column in ("bits per byte", "perplexity a token", "parameters"):
        table.add_column(column, justify="right")
    for name, figures in report.items():
        if "bits_per_byte" in figures:
            row = [f"{figures['bits_per_byte']:.4f}", f"{figures['perplexity_per_token']:.2f}"]
            table.add_row(name, *row, f"{int(figures.get('parameters', 0)):,}")
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    if vae := report.get("vae"):
        console.print(
            f"SentenceVAE: {vae['token_accuracy']:.2%} of tokens, {vae['exact_sentences']:.2%} of "
            f"{int(vae['sentences']):,} sentences back whole; perplexity {vae['perplexity']:.2f}"
        )


def _device() -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _say(model: str) -> None:
    print(f"evaluate: {model} ...", file=sys.stderr, flush=True)
