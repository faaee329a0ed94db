"""`sllm compare`: designs trained on the same tokens, beside each other in one table and one plot.

Each variant's models are ordinary training jobs in folders below `output`, reused when they are finished; the table
and the plot are a job of their own in `output`/report, made again when other variants or other measures are asked for.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from infra.mlflow_run import ActiveRun
from jobs.reports.comparison import markdown, plot
from jobs.runner.execution import run_job
from jobs.runner.output_folder import check_new, output_folder
from jobs.runner.training import shards_artifact
from pipeline.config import Config, Variant, override
from pipeline.errors import ConfigError, ModelError
from pipeline.evaluation.ablations import Ablation, has_other_documents
from pipeline.evaluation.comparison import (
    Measured,
    context_memory,
    measure_speeds,
    sentence_writer,
    steps_for,
    token_writer,
    training_flops_per_token,
    writing_flops_per_token,
)
from pipeline.evaluation.flops import num_parameters
from pipeline.evaluation.likelihood import (
    Float64,
    bits_per_byte_by_position,
    covering_edges,
    likelihood_of_tokens,
    select_documents,
    sllm_nll_by_token,
    token_lm_nll_by_token,
)
from pipeline.lineage import JobRecord, artifact_of
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, learned_positions, load_causal_lm
from pipeline.output_files import REPORT_FOLDER
from pipeline.shards.format import Shards, open_shards
from pipeline.stream.windows import DocumentSource, SentenceWindows, TokenWindows
from pipeline.training.task import build_task, corpora, train_config

JSON_FILE, MARKDOWN_FILE, PLOT_FILES = (
    "comparison.json",
    "comparison.md",
    ("comparison.png", "comparison.svg"),
)


@dataclass(frozen=True)
class Trained:
    """A variant whose stages are finished."""

    name: str
    variant: Variant
    config: Config
    """Its own, with the folders of its models."""
    records: dict[str, JobRecord]

    @property
    def is_token_level(self) -> bool:
        """Whether its last stage is a token-level model."""
        return list(self.records)[-1] == "train-lm"

    @property
    def folder(self) -> str:
        """Of the model that is compared."""
        return list(self.records.values())[-1].output.path


def run(config: Config, force: bool = False) -> JobRecord:
    """Train `config.compare.variants` on `config.shards` into `config.output`; score, measure, report."""
    if not isinstance(config.shards, str) or config.output is None or not config.compare.variants:
        raise ConfigError("compare needs one shards=FOLDER, output=FOLDER, and compare.variants")
    output_folder(config.output, "compare needs output=FOLDER")
    variants = _variants(config)
    baseline = _baseline(config, variants)
    for name, variant in variants.items():
        for verb in variant.stages:
            check_new(str(Path(config.output, name, _model_of(verb))), "model", (), force)
    check_new(str(Path(config.output, REPORT_FOLDER)), "report", (), force)
    shards = open_shards(config.shards, config.stream)
    if shards.documents("dev").num_documents == 0:
        raise ConfigError(
            f"{config.shards} has no dev split: prepare with data.dev_fraction or data.dev_inputs"
        )
    for name in variants:
        _check(name, config)
    trained = [_train(name, variant, config, shards, force) for name, variant in variants.items()]
    output = str(Path(config.output, REPORT_FOLDER))

    def body(run: ActiveRun) -> dict[str, float]:
        return _report(config, shards, trained, baseline, Path(run.output))

    record = run_job(
        "compare",
        config,
        sections=["compare", "evaluate", "lm.context_tokens", "sllm.context_sentences"],
        inputs=[
            shards_artifact(config.shards, config.stream),
            *(artifact_of(each.folder) for each in trained),
        ],
        output=output,
        output_kind="report",
        body=body,
        beside=["shards"],
        force=force,
        replace_other=True,
    )
    print(Path(output, MARKDOWN_FILE).read_text())
    return record


def variant_config(config: Config, name: str, stages: dict[str, JobRecord]) -> Config:
    """The configuration of a variant, with the folders of the stages that are done (none: of those given)."""
    variant = config.compare.variants[name]
    own = override(config, variant.overrides)
    # Models that a stage makes start anew, so that all designs see the same tokens, unless the design says otherwise.
    anew = {
        _model_of(verb): None
        for verb in variant.stages
        if f"models.{_model_of(verb)}" not in variant.overrides
    }
    made = {_model_of(verb): record.output.path for verb, record in stages.items()}
    return own.model_copy(update={"models": own.models.model_copy(update={**anew, **made})})


def _train(name: str, variant: Variant, config: Config, shards: Shards, force: bool) -> Trained:
    records: dict[str, JobRecord] = {}
    total = sum(variant.stages.values())
    for verb, share in variant.stages.items():
        own = variant_config(config, name, records)
        tokens = config.compare.tokens * share / total
        steps = steps_for(corpora(verb, own, "train"), train_config(verb, own), config.stream, tokens)
        own = override(own, {f"{_model_of(verb)}.train.steps": steps})
        own = own.model_copy(update={"output": str(Path(str(config.output), name, _model_of(verb)))})
        records[verb] = importlib.import_module(f"jobs.{verb.replace('-', '_')}").run(own, force=force)
    return Trained(name, variant, variant_config(config, name, records), records)


def _check(name: str, config: Config) -> None:
    """Build each stage of a variant in shape alone, so that what does not fit is told before anything is trained."""
    variant = config.compare.variants[name]
    fresh = {"sllm.vae_from": "config", "sllm.trunk_from": "config", "vae.init_from_lm": False}
    for verb in variant.stages:
        try:
            build_task(verb, override(variant_config(config, name, {}), fresh), read_weights=False)
        except (ConfigError, ModelError) as error:
            raise type(error)(f"compare.variants.{name}: {error}") from error


def _model_of(verb: str) -> str:
    """`lm`, `vae` or `sllm`: the model's section, key and folder."""
    return verb.removeprefix("train-")


def _variants(config: Config) -> dict[str, Variant]:
    """Those to compare; a wrong one is told before anything is trained."""
    variants = config.compare.variants
    for name in config.compare.only:
        if name not in variants:
            raise ConfigError(f"compare.only: {name} is no variant; there are {', '.join(variants)}")
    for name, variant in variants.items():
        if name == REPORT_FOLDER or Path(name).name != name:
            raise ConfigError(
                f"compare.variants.{name}: {name!r} cannot be the name of its folder; take another"
            )
        if not variant.stages or list(variant.stages)[-1] == "train-vae":
            raise ConfigError(f"compare.variants.{name}.stages must end with train-lm or train-sllm")
        if variant.changed_from is not None and variant.changed_from not in variants:
            raise ConfigError(
                f"compare.variants.{name}.changed_from={variant.changed_from} is no variant; "
                f"there are {', '.join(variants)}"
            )
        override(config, variant.overrides)
    return {name: variant for name, variant in variants.items() if name in (config.compare.only or variants)}


def _baseline(config: Config, variants: dict[str, Variant]) -> str:
    token_level = [name for name, variant in variants.items() if list(variant.stages)[-1] == "train-lm"]
    chosen = config.compare.baseline or next(iter(token_level), None)
    if chosen not in token_level:
        raise ConfigError(
            f"compare.baseline={chosen} is no token-level variant; there are {', '.join(token_level) or 'none'}"
        )
    return chosen


def _report(
    config: Config, shards: Shards, trained: list[Trained], baseline: str, folder: Path
) -> dict[str, float]:
    documents = select_documents(shards.documents("dev"), config.evaluate.max_documents)
    edges = covering_edges(documents, config.compare.position_edges)
    measured = _measure(config, shards, documents, edges, trained)
    setting = {
        "tokens": config.compare.tokens,
        "baseline": baseline,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "shards": shards.manifest.digest,
        "position_edges": edges,
        "generated_tokens": config.compare.generated_tokens,
        "documents": len(documents.num_bytes_N),
        "bytes": int(documents.num_bytes_N.sum()),
        "lossy_documents": shards.manifest.totals["dev"].lossy_documents,
    }
    tree = {"setting": setting, "variants": {each.name: each.as_dict() for each in measured}}
    (folder / JSON_FILE).write_text(json.dumps(tree, indent=2) + "\n")
    (folder / MARKDOWN_FILE).write_text(markdown(measured, setting))
    for name in PLOT_FILES:
        plot(measured, setting, folder / name)
    return {f"{each.name}/bits_per_byte": each.bits_per_byte for each in measured}


def _measure(
    config: Config, shards: Shards, documents: DocumentSource, edges: list[int], trained: list[Trained]
) -> list[Measured]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = {each.name: _load(each).to(device).eval() for each in trained}
    tokenizer = shards.tokenizer()
    num_tokens = config.compare.generated_tokens
    writers = {}
    for each in trained:
        model, context = models[each.name], each.config.lm.context_tokens
        writers[each.name] = (
            token_writer(model, num_tokens, context, tokenizer.bos_id, tokenizer.eos_id)
            if isinstance(model, TokenLm)
            else sentence_writer(_sllm(model), num_tokens)
        )
    _say("speed of writing")
    speeds = measure_speeds(writers, config.compare.batch_sizes, config.compare.repeats)
    totals = shards.manifest.totals["train"]
    measured = []
    for each in trained:
        _say(f"{each.variant.title}: bits per byte, FLOPs")
        model = models[each.name]
        scores = dict(_scores(each, config, documents, (tokenizer.bos_id, tokenizer.eos_id), model))
        bits = {kind: likelihood_of_tokens(documents, nll_T).bits_per_byte for kind, nll_T in scores.items()}
        growing, fixed = context_memory(
            model if isinstance(model, TokenLm) else _sllm(model), totals.tokens / totals.sentences
        )
        measured.append(
            Measured(
                name=each.name,
                title=each.variant.title,
                kind="token-level" if each.is_token_level else "sentence-level",
                parameters=num_parameters(model),
                training_tokens=sum(record.metrics["train/tokens"] for record in each.records.values()),
                training_flops=_training_flops(each),
                bits_per_byte=bits.pop("none"),
                context_bytes_per_token=growing,
                window_bytes=fixed,
                speeds=speeds[each.name],
                writing_flops_per_token=writing_flops_per_token(writers[each.name]),
                ablations=bits,
                curve=tuple(
                    bits_per_byte_by_position(documents, scores["none"], tokenizer.token_bytes, edges)
                ),
                changed_from=each.variant.changed_from,
                slides=not isinstance(model, TokenLm) or learned_positions(model.model) is None,
            )
        )
    return measured


def _load(trained: Trained) -> torch.nn.Module:
    model: torch.nn.Module
    if trained.is_token_level:
        model = TokenLm(load_causal_lm(trained.folder, trained.config.trunk))
    else:
        model = saved_model(trained.folder, Sllm, "sllm")
    return model.requires_grad_(False)  # PyTorch's counter of FLOPs fails on inference tensors otherwise


def _sllm(model: torch.nn.Module) -> Sllm:
    assert isinstance(model, Sllm)
    return model


def _scores(
    trained: Trained,
    config: Config,
    documents: DocumentSource,
    marks: tuple[int, int],
    model: torch.nn.Module,
) -> Iterator[tuple[str, Float64]]:
    """NLL of each dev token, as the model is and with its latents replaced."""
    budget = config.evaluate.micro_batch_tokens
    if isinstance(model, TokenLm):
        context = trained.config.lm.context_tokens
        source = TokenWindows(documents, context, *marks, overlap=min(context // 2, context - 2))
        yield "none", token_lm_nll_by_token(model, source, budget)
        return
    sllm = _sllm(model)
    sentences = sllm.config.context_sentences
    ablations: list[Ablation] = ["none"]
    if config.evaluate.ablations:
        ablations += ["zeroed", "shuffled"] if has_other_documents(documents) else ["zeroed"]
        # A decoder that was never trained as an autoencoder cannot read the encoder's latents.
        if "train-vae" in trained.records:
            ablations.append("oracle")
    windows = SentenceWindows(documents, sentences, *marks, sentences // 2, sllm.vae.decoder_reach)
    for ablation in ablations:
        yield ablation, sllm_nll_by_token(sllm, windows, budget, ablation)


def _training_flops(trained: Trained) -> float:
    total = 0.0
    for verb, record in trained.records.items():
        # Its own model is what was made, not what it starts from.
        models = trained.config.models.model_copy(update={_model_of(verb): None})
        own = trained.config.model_copy(update={"models": models})
        task = build_task(verb, own)  # type: ignore[arg-type]
        per_token = training_flops_per_token(task, train_config(verb, own))  # type: ignore[arg-type]
        total += per_token * record.metrics["train/tokens"]
    return total


def _say(line: str) -> None:
    print(f"compare: {line} ...", file=sys.stderr, flush=True)
