"""Small configurations of the paper, trained and scored under the published rules and under exact ones."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config import Config, override
from pipeline.evaluation.comparison import steps_for
from pipeline.evaluation.flops import num_parameters
from pipeline.evaluation.likelihood import likelihood_of_tokens, select_documents, sllm_nll_by_token
from pipeline.evaluation.published.next_sentence import NextSentenceObjective
from pipeline.evaluation.published.rules import (
    FORWARD_RULES,
    LM_RULES,
    RULES,
    VAE_RULES,
    Scores,
    perplexity,
)
from pipeline.evaluation.published.scoring import score_lm, score_sllm, score_vae
from pipeline.evaluation.published.text import as_read, first_tokens
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.models.trunk import load_layers, token_vectors
from pipeline.shards.reading import Shards, open_shards
from pipeline.stream.windows import DocumentSource, SentenceWindows
from pipeline.training.engine import PlainEngine
from pipeline.training.loop import train
from pipeline.training.task import TrainingJob, build_task, train_config

TRAINING_RULES = ("given", "means", "targets", "future")
"""Rules of the published code that are in its training too."""
EXACT, PUBLISHED = "exact", "published"
"""Names of the two ways to train the sentence-level models of all configurations."""
Row = dict[str, Any]


def reproduce(config: Config, may_use_gpu: bool) -> Iterator[str | Row]:
    """Train and score the configurations of `config.reproduce` on `config.shards` -> the name of each part before it
    begins, and after the parts of a configuration its figures."""
    (folder,) = config.shard_folders
    shards = open_shards(folder, config.stream)
    documents = select_documents(shards.documents("dev"), config.evaluate.max_documents)
    options = config.reproduce
    for size, overrides in options.sizes.items():
        chosen = [layers for layers in options.vae_layers if options.name(size, layers) in options.names]
        if not chosen:
            continue
        own = override(config, dict(overrides))
        yield f"{size}: token-level model"
        lm = _trained_lm(own)
        context = own.lm.context_tokens
        token_level = _explained(_lm_scorer(own, shards, documents, lm, context), LM_RULES)
        for layers in chosen:
            name = options.name(size, layers)
            of_layers = override(own, {"vae.num_layers": layers})
            yield f"{name}: SentenceVAE"
            vae = _trained_vae(of_layers, lm)
            row: Row = {"name": name, "size": size, "layers": layers, "token_level": token_level}
            row["vae"] = _explained(_vae_scorer(of_layers, shards, documents, vae), VAE_RULES)
            ways: dict[str, Collection[str]] = {EXACT: (), PUBLISHED: TRAINING_RULES}
            if name in options.rules_alone:
                ways |= {rule: (rule,) for rule in TRAINING_RULES}
            row["sllm"] = {}
            for way, rules in ways.items():
                yield f"{name}: sentence-level model, training {way}"
                sllm = _trained_sllm(of_layers, lm, vae, rules)
                row["sllm"][way] = _explained(_sllm_scorer(of_layers, shards, documents, sllm), tuple(RULES))
                row["sllm"][way]["bits_per_byte"] = _bits_per_byte(of_layers, shards, documents, sllm)
                row["parameters"] = num_parameters(sllm)
            yield row


def _explained(score: Callable[[frozenset[str]], Scores], rules: Sequence[str]) -> Row:
    """Perplexities: exact, under all rules, under each rule alone, and under all but each."""
    known: dict[frozenset[str], Scores] = {}

    def under(chosen: Collection[str]) -> float:
        forward = frozenset(chosen) & frozenset(FORWARD_RULES)
        if forward not in known:
            known[forward] = score(forward)
        return perplexity(known[forward], chosen)

    return {
        "exact": under(()),
        "published": under(rules),
        "alone": {rule: under((rule,)) for rule in rules},
        "without": {rule: under([other for other in rules if other != rule]) for rule in rules},
    }


def _lm_scorer(
    config: Config, shards: Shards, documents: DocumentSource, lm: TokenLm, context: int
) -> Callable[[frozenset[str]], Scores]:
    ids, budget = _ids(shards), config.evaluate.micro_batch_tokens

    def score(rules: frozenset[str]) -> Scores:
        read = first_tokens(documents, context - 1) if "text" in rules else documents
        return score_lm(lm, read, context, budget, ids)

    return score


def _vae_scorer(
    config: Config, shards: Shards, documents: DocumentSource, vae: SentenceVae
) -> Callable[[frozenset[str]], Scores]:
    def score(rules: frozenset[str]) -> Scores:
        read = as_read(documents, shards.tokenizer()) if "text" in rules else documents
        source = SentenceWindows(read, config.sllm.context_sentences, *_ids(shards))
        return score_vae(vae, source, config.evaluate.micro_batch_tokens)

    return score


def _sllm_scorer(
    config: Config, shards: Shards, documents: DocumentSource, sllm: Sllm
) -> Callable[[frozenset[str]], Scores]:
    def score(rules: frozenset[str]) -> Scores:
        if "text" in rules:  # a document is one passage
            read = as_read(documents, shards.tokenizer(), config.sllm.context_sentences)
            source = SentenceWindows(read, config.sllm.context_sentences, *_ids(shards))
        else:
            source = _overlapping(config, shards, documents)
        return score_sllm(sllm, source, config.evaluate.micro_batch_tokens, rules)

    return score


def _overlapping(config: Config, shards: Shards, documents: DocumentSource) -> SentenceWindows:
    """Windows of evaluation: each sentence has at least half a window of context where its document has it."""
    size = config.sllm.context_sentences
    return SentenceWindows(documents, size, *_ids(shards), size // 2, 0)


def _bits_per_byte(config: Config, shards: Shards, documents: DocumentSource, sllm: Sllm) -> float:
    """As `sllm evaluate` computes them."""
    nll_T = sllm_nll_by_token(
        sllm, _overlapping(config, shards, documents), config.evaluate.micro_batch_tokens
    )
    return likelihood_of_tokens(documents, nll_T).bits_per_byte


def _ids(shards: Shards) -> tuple[int, int]:
    return shards.tokenizer().bos_id, shards.tokenizer().eos_id


def _trained_lm(config: Config) -> TokenLm:
    module = _trained("train-lm", config)
    assert isinstance(module, TokenLm)
    return module


def _trained_vae(config: Config, lm: TokenLm) -> SentenceVae:
    """From the token-level model's embedding, as in the paper."""

    def start(module: nn.Module) -> nn.Module:
        assert isinstance(module, SentenceVae)
        with torch.no_grad():
            module.embedding.weight.copy_(token_vectors(lm.model))
        return module

    module = _trained("train-vae", config, start)
    assert isinstance(module, SentenceVae)
    return module


def _trained_sllm(config: Config, lm: TokenLm, vae: SentenceVae, rules: Collection[str]) -> Sllm:
    """From the token-level model's layers and the SentenceVAE, as in the paper."""

    def start(module: nn.Module) -> nn.Module:
        assert isinstance(module, Sllm)
        module.vae.load_state_dict(vae.state_dict())
        load_layers(module.trunk, lm.model)
        return NextSentenceObjective(module, rules)

    module = _trained("train-sllm", config, start)
    assert isinstance(module, NextSentenceObjective)
    return module.model


def _trained(
    job: TrainingJob, config: Config, start: Callable[[nn.Module], nn.Module] = lambda module: module
) -> nn.Module:
    """The module of a training job after `config.reproduce.tokens` tokens, on the CPU."""
    fresh = override(config, {"sllm.vae_from": "config", "sllm.trunk_from": "config"})
    task = build_task(job, fresh)
    task = dataclasses.replace(task, module=start(task.module), dev=None)
    options = train_config(job, config)
    steps = steps_for(task.train, options, config.stream, config.reproduce.tokens)
    options = options.model_copy(update={"steps": steps, "checkpoint_every": steps, "log_every": steps})
    train(task, options, PlainEngine(task.module, options, config.precision), _NothingKept())
    return task.module.to("cpu").eval().requires_grad_(False)


class _NothingKept:
    """A runtime that keeps neither metrics nor checkpoints: these trainings take seconds."""

    def report(self, metrics: dict[str, float]) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def save(self, step: int, write: Callable[[Path], None], background: bool) -> None:
        """Nothing."""

    def wait(self) -> None:
        """Nothing."""

    def wants_checkpoint(self, step: int) -> bool:
        """Never."""
        return False

    def latest(self) -> AbstractContextManager[Path | None]:
        """There is none."""
        return nullcontext()


def text_read(config: Config) -> dict[str, float]:
    """Tokens of the dev documents, and the share of them that the published code reads: of sentence-level models, and
    of token-level ones."""
    (folder,) = config.shard_folders
    shards = open_shards(folder, config.stream)
    documents = select_documents(shards.documents("dev"), config.evaluate.max_documents)
    tokens = int(documents.token_starts_N1[-1] - documents.token_starts_N1[0])
    read = as_read(documents, shards.tokenizer(), config.sllm.context_sentences)
    return {"dev_tokens": tokens, "share_read": float(np.sum(read.sentence_lengths)) / max(tokens, 1)}
