"""`sllm evaluate`: the same dev documents under every model, in bits per byte."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from infra.mlflow_run import ActiveRun
from jobs.runner.execution import run_job
from jobs.runner.output_folder import output_folder
from jobs.runner.training import model_artifact, shards_artifact
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.ablations import has_other_documents
from pipeline.evaluation.flops import num_parameters
from pipeline.evaluation.likelihood import (
    Float64,
    likelihood,
    longest_sentence,
    reconstruction,
    select_documents,
    sllm_nll,
    token_lm_nll,
    unigram_nll,
)
from pipeline.lineage import JobRecord
from pipeline.models.saved import check_models, saved_model, sentence_limit
from pipeline.models.sentence_vae import SentenceVae, check_longest
from pipeline.models.sllm import Ablation, Sllm
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.shards.format import Shards, open_shards
from pipeline.stream.window_batches import DocumentSource, SentenceWindows, TokenWindows
from pipeline.tokenization.tokenizer import Tokenizer

REPORT_FILE = "evaluation.json"

Report = dict[str, dict[str, Any]]
"""Figures of each model, by name; beside them the segmenter that a sentence-level model was trained with."""


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
        *(model_artifact(path) for path in models if path is not None),
    ]

    def check() -> None:
        check_models(config, open_shards(str(config.shards), config.stream))

    def body(run: ActiveRun) -> dict[str, float]:
        report = evaluate(config, open_shards(str(config.shards), config.stream))
        Path(run.output, REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
        return {
            f"{model}/{name}": value
            for model, figures in report.items()
            for name, value in figures.items()
            if not isinstance(value, str)
        }

    record = run_job(
        "evaluate",
        config,
        sections=["evaluate", "lm.context_tokens"],
        inputs=inputs,
        output=config.output,
        output_kind="report",
        body=body,
        beside=["shards", "models"],
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
    task.check_sentences()
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

    def check_sentences(self) -> None:
        """Raise `ModelError` where a model cannot write the longest sentence, before any is scored."""
        longest = longest_sentence(self.documents)
        for name in ("vae", "sllm"):
            if (path := getattr(self.config.models, name)) is not None:
                check_longest(longest, sentence_limit(path, name), f"{self.config.shards} and {path}: ")

    def unigram(self) -> dict[str, Any]:
        nll_N = unigram_nll(self.shards.documents("train"), self.documents, self.tokenizer.vocab_size)
        return self._likelihood(nll_N)

    def _likelihood(self, nll_N: Float64) -> dict[str, Any]:
        """Figures of the documents; with the count of those whose ids do not give the text back."""
        lossy = self.shards.manifest.totals["dev"].lossy_documents
        return likelihood(self.documents, nll_N).as_dict() | ({"lossy_documents": lossy} if lossy else {})

    def _segmenter(self, vae: SentenceVae) -> dict[str, str]:
        """Names of the segmenters, where the model was trained with another one than made the shards."""
        own, of_shards = vae.config.segmenter, self.shards.manifest.segmenter
        return {} if own in (None, of_shards) else segmenters_of(own, of_shards)

    def token_lm(self, path: str) -> dict[str, Any]:
        _say("token-level model")
        model = load_causal_lm(path, self.config.trunk)
        context = self.config.lm.context_tokens
        source = TokenWindows(self.documents, context, *self._marks(), overlap=min(context // 2, context - 2))
        nll_N = token_lm_nll(TokenLm(model).to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return self._likelihood(nll_N) | {"parameters": num_parameters(model)}

    def vae(self, path: str) -> dict[str, Any]:
        _say("SentenceVAE")
        model = saved_model(path, SentenceVae, "vae")
        source = SentenceWindows(self.documents, self.config.sllm.context_sentences, *self._marks())
        figures = reconstruction(model.to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return figures.as_dict() | {"parameters": num_parameters(model)} | self._segmenter(model)

    def sllm(self, path: str) -> Report:
        model = saved_model(path, Sllm, "sllm")
        model.to(_device())
        context = model.config.context_sentences
        source = SentenceWindows(
            self.documents, context, *self._marks(), context // 2, model.vae.decoder_reach
        )
        ablations: list[Ablation] = ["none"]
        if self.config.evaluate.ablations:
            ablations += ["zeroed", "shuffled"] if has_other_documents(self.documents) else ["zeroed"]
        if self.config.evaluate.ablations and "shuffled" not in ablations:
            _say("no latents of another document, since there is only one document")
        report: Report = {}
        for ablation in ablations:
            name = "sllm" if ablation == "none" else f"sllm_latents_{ablation}"
            _say(name)
            nll_N = sllm_nll(model, source, self.config.evaluate.micro_batch_tokens, ablation)
            report[name] = (
                self._likelihood(nll_N) | {"parameters": num_parameters(model)} | self._segmenter(model.vae)
            )
        return report

    def _marks(self) -> tuple[int, int]:
        return self.tokenizer.bos_id, self.tokenizer.eos_id


def segmenters_of(own: dict[str, Any], of_shards: dict[str, Any]) -> dict[str, str]:
    """Names of two segmenters; with what else differs where the names are the same."""
    if own["name"] != of_shards["name"]:
        return {"segmenter": own["name"], "shards_segmenter": of_shards["name"]}
    names = [json.dumps(each, sort_keys=True) for each in (own, of_shards)]
    return dict(zip(("segmenter", "shards_segmenter"), names, strict=True))


def read_report(output: str) -> Report:
    """The figures that an evaluation wrote."""
    return json.loads(Path(output, REPORT_FILE).read_text())


def notes_of(report: Report) -> list[str]:
    """What must be said beside the figures: bits per byte that mean nothing, and other segmenters."""
    notes = []
    if lossy := lossy_documents(report):
        notes.append(
            f"(*) Bits per byte mean nothing here: of {lossy:,} documents of the dev split the token ids do not give "
            "the text back; perplexities are of what is left."
        )
    for name, figures in report.items():
        if "segmenter" in figures:
            notes.append(
                f"{name} was trained on sentences of {figures['segmenter']}, and scored on those of "
                f"{figures['shards_segmenter']}."
            )
    return notes


def lossy_documents(report: Report) -> int:
    """Documents of the dev split that their token ids do not give back."""
    return max((figures.get("lossy_documents", 0) for figures in report.values()), default=0)


def print_report(report: Report) -> None:
    """A table of likelihoods, and a line on reconstruction."""
    table = Table(title="Dev documents", title_justify="left")
    table.add_column("model")
    mark = " (*)" if lossy_documents(report) else ""
    for column in (f"bits per byte{mark}", "perplexity a token", "parameters"):
        table.add_column(column, justify="right")
    for name, figures in report.items():
        if "bits_per_byte" in figures:
            row = [f"{figures['bits_per_byte']:.4f}", f"{figures['perplexity_per_token']:.2f}"]
            parameters = f"{int(figures['parameters']):,}" if "parameters" in figures else ""
            table.add_row(name, *row, parameters)
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    for note in notes_of(report):
        console.print(note, highlight=False, markup=False)
    if vae := report.get("vae"):
        console.print(
            f"SentenceVAE: {vae['token_accuracy']:.2%} of tokens, {vae['exact_sentences']:.2%} of "
            f"{int(vae['sentences']):,} sentences back whole; perplexity {vae['perplexity']:.2f}"
        )


def _device() -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _say(model: str) -> None:
    print(f"evaluate: {model} ...", file=sys.stderr, flush=True)
