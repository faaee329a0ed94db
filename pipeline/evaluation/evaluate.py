"""Evaluation of all models of a configuration on the same whole dev documents, by any number of workers.

A worker scores some micro-batches at a time. They are made from the lengths of the documents alone, and what workers
give is added in the order of the documents, so the figures do not depend on the workers.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

import numpy as np

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.ablations import Ablation, has_other_documents
from pipeline.evaluation.evaluator import Description, Evaluator, ModelName, Part
from pipeline.evaluation.likelihood import (
    bits_per_byte_by_position,
    covering_edges,
    likelihood,
    longest_sentence,
    nll_by_document,
    nll_by_token,
    reconstruction_of,
    select_documents,
    unigram_nll,
)
from pipeline.evaluation.scoring import Float64
from pipeline.models.device import CPU, NO_CUDA
from pipeline.models.model_folder import with_local_models
from pipeline.models.saved import sentence_limit
from pipeline.models.sentence_vae import check_longest
from pipeline.shards.reading import Shards
from pipeline.stream.windows import DocumentSource

PART_MICRO_BATCHES = 16
"""Micro-batches that a worker scores at once."""
PART_SHARDS = 4
"""Train shards whose tokens a worker counts at once."""

Figures = dict[str, dict[str, Any]]
"""Figures of each model, by name; if its segmenter differs from the shards', also the names of both."""
ShowCurve = Callable[[str, list[int], list[float]], object]
"""Takes the name of a model, edges (positions in the document, tokens), and bits per byte between two edges; NaN where
there are no tokens."""
ShowProgress = Callable[[str, int], Callable[[int], object]]
"""Takes the name of a model and the number of tokens to score; returns a function to call with the tokens scored."""
T = TypeVar("T")
R = TypeVar("R")


class Evaluators(Protocol):
    """Several `Evaluator`s, in this process or on a cluster."""

    def map(self, work: Callable[[Evaluator, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work` (a method of `Evaluator`) for each item; yields (item, result) in any order."""

    def close(self) -> None:
        """Stop them."""


def evaluate(
    config: Config,
    shards: Shards,
    start: Callable[[], Evaluators],
    say: Callable[[str], None],
    progress: ShowProgress,
    on_curve: ShowCurve = lambda name, edges, curve: None,
) -> Figures:
    """Figures of the models in `config.models`, and of a unigram model, on the dev split; `say` is called with the name
    of each model before its evaluation, `on_curve` with its bits per byte by position.

    Raises, before any evaluation, `ConfigError` without a dev split and `ModelError` where a sentence is too long for a
    model.
    """
    whole = shards.documents("dev")
    if whole.num_documents == 0:
        raise ConfigError(
            f"{config.shards} has no dev split: prepare with data.dev_fraction or data.dev_inputs"
        )
    documents = select_documents(whole, config.evaluate.max_documents)
    _check_sentences(with_local_models(config), documents)
    with closing(start()) as evaluators:
        evaluation = _Evaluation(config, shards, documents, evaluators, say, progress, on_curve)
        figures: Figures = {"unigram": evaluation.unigram()}
        if config.models.lm is not None:
            figures |= evaluation.token_lm()
        if config.models.vae is not None:
            figures["vae"] = evaluation.vae()
        if config.models.sllm is not None:
            figures |= evaluation.sllm()
    return figures


def _check_sentences(config: Config, documents: DocumentSource) -> None:
    """Raise `ModelError` where a model cannot generate the longest sentence."""
    longest = longest_sentence(documents)
    for name in ("vae", "sllm"):
        if (path := getattr(config.models, name)) is not None:
            check_longest(longest, sentence_limit(path, name), f"{config.shards} and {path}: ")


@dataclass(frozen=True)
class _Evaluation:
    config: Config
    shards: Shards
    documents: DocumentSource
    evaluators: Evaluators
    say: Callable[[str], None]
    progress: ShowProgress
    on_curve: ShowCurve

    def unigram(self) -> dict[str, Any]:
        train = self.shards.records("train")
        starts = range(0, len(train), PART_SHARDS)
        parts = [range(start, min(start + PART_SHARDS, len(train))) for start in starts]
        done = self.progress("unigram", sum(record.tokens for record in train))
        counts_V = np.zeros(self.shards.tokenizer().vocab_size, np.int64)
        for part, of_part_V in self.evaluators.map(Evaluator.count_tokens, parts):
            counts_V += of_part_V
            done(sum(train[index].tokens for index in part))
        num_documents = self.shards.manifest.totals["train"].documents
        return self._likelihood(unigram_nll(counts_V, num_documents, self.documents))

    def token_lm(self) -> Figures:
        self.say("token-level model")
        model = self._describe("lm")
        own = {"parameters": model.parameters}
        figures = {"lm": self._scores("token-level model", "lm", "lm", model) | own}
        return figures | self._cached("lm", own)

    def vae(self) -> dict[str, Any]:
        self.say("SentenceVAE")
        model = self._describe("vae")
        parts = dict(self._parts("SentenceVAE", "vae", model, Evaluator.reconstruct))
        # Floating-point sums depend on their order.
        in_order = chain.from_iterable(parts[part] for part in sorted(parts, key=lambda part: part.start))
        figures = reconstruction_of(in_order).as_dict()
        return figures | {"parameters": model.parameters} | self._segmenters(model)

    def sllm(self) -> Figures:
        model = self._describe("sllm")
        ablations: list[Ablation] = ["none"]
        if self.config.evaluate.ablations:
            ablations += ["zeroed", "shuffled"] if has_other_documents(self.documents) else ["zeroed"]
        if self.config.evaluate.ablations and "shuffled" not in ablations:
            self.say("no latents of another document, since there is only one document")
        figures: Figures = {}
        for ablation in ablations:
            name = "sllm" if ablation == "none" else f"sllm_latents_{ablation}"
            self.say(name)
            own = {"parameters": model.parameters} | self._segmenters(model)
            figures[name] = self._scores(name, name, "sllm", model, ablation) | own
        return figures | self._cached("sllm", own)

    def _cached(self, name: ModelName, own: dict[str, Any]) -> Figures:
        """With a continuous cache, if one is asked for."""
        if not self.config.evaluate.cache_tokens:
            return {}
        self.say(f"{name}, with a continuous cache")
        ((_, nll_N),) = self.evaluators.map(Evaluator.cached, [name])
        return {f"{name}_with_cache": self._likelihood(nll_N) | own}

    def _describe(self, name: ModelName) -> Description:
        ((_, description),) = self.evaluators.map(Evaluator.describe, [name])
        if self.config.ray.use_gpu and description.device == CPU:
            self.say(NO_CUDA)
        return description

    def _scores(
        self, title: str, shown: str, name: ModelName, model: Description, ablation: Ablation = "none"
    ) -> dict[str, Any]:
        parts = self._parts(title, name, model, Evaluator.score, ablation)
        nll_T = nll_by_token(self.documents, chain.from_iterable(scores for _, scores in parts))
        edges = covering_edges(self.documents, self.config.compare.position_edges)
        bytes_V = self.shards.tokenizer().token_bytes
        self.on_curve(shown, edges, bits_per_byte_by_position(self.documents, nll_T, bytes_V, edges))
        return self._likelihood(nll_by_document(self.documents, nll_T))

    def _parts(
        self,
        title: str,
        name: ModelName,
        model: Description,
        work: Callable[[Evaluator, Part], R],
        ablation: Ablation = "none",
    ) -> Iterator[tuple[Part, R]]:
        """What the workers give for each part of the dev documents, in any order."""
        tokens = model.micro_batch_tokens
        done = self.progress(title, sum(tokens))
        starts = range(0, len(tokens), PART_MICRO_BATCHES)
        parts = [Part(name, start, start + PART_MICRO_BATCHES, ablation) for start in starts]
        for part, result in self.evaluators.map(work, parts):
            done(sum(tokens[part.start : part.end]))
            yield part, result

    def _likelihood(self, nll_N: Float64) -> dict[str, Any]:
        """Figures of the documents, and the number of those whose text differs after decoding their ids."""
        lossy = self.shards.manifest.totals["dev"].lossy_documents
        return likelihood(self.documents, nll_N).as_dict() | ({"lossy_documents": lossy} if lossy else {})

    def _segmenters(self, model: Description) -> dict[str, str]:
        own, of_shards = model.segmenter, self.shards.manifest.segmenter
        return {} if own in (None, of_shards) else segmenters_of(own, of_shards)


def segmenters_of(own: dict[str, Any], of_shards: dict[str, Any]) -> dict[str, str]:
    """Names of two segmenters; if they are equal, also the first difference."""
    if own["name"] != of_shards["name"]:
        return {"segmenter": own["name"], "shards_segmenter": of_shards["name"]}
    names = [json.dumps(each, sort_keys=True) for each in (own, of_shards)]
    return dict(zip(("segmenter", "shards_segmenter"), names, strict=True))
