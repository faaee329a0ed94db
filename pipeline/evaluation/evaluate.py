"""Evaluation of all models of a configuration on the same whole dev documents."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.ablations import Ablation, has_other_documents
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
from pipeline.models.model_folder import with_local_models
from pipeline.models.saved import saved_model, sentence_limit
from pipeline.models.sentence_vae import SentenceVae, check_longest
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.shards.reading import Shards
from pipeline.stream.windows import DocumentSource, SentenceWindows, TokenWindows
from pipeline.tokenization.tokenizer import Tokenizer

Figures = dict[str, dict[str, Any]]
"""Figures of each model, by name; if its segmenter differs from the shards', also the names of both."""


def evaluate(config: Config, shards: Shards, say: Callable[[str], None]) -> Figures:
    """Figures of the models in `config.models`, and of a unigram model, on the dev split; `say` is called with the name
    of each model before its evaluation.

    Raises, before any evaluation, `ConfigError` without a dev split and `ModelError` where a sentence is too long for a
    model.
    """
    config = with_local_models(config)
    whole = shards.documents("dev")
    if whole.num_documents == 0:
        raise ConfigError(
            f"{config.shards} has no dev split: prepare with data.dev_fraction or data.dev_inputs"
        )
    documents = select_documents(whole, config.evaluate.max_documents)
    evaluation = _Evaluation(config, shards, documents, shards.tokenizer(), say)
    evaluation.check_sentences()
    figures: Figures = {"unigram": evaluation.unigram()}
    if config.models.lm is not None:
        figures["lm"] = evaluation.token_lm(config.models.lm)
    if config.models.vae is not None:
        figures["vae"] = evaluation.vae(config.models.vae)
    if config.models.sllm is not None:
        figures |= evaluation.sllm(config.models.sllm)
    return figures


@dataclass(frozen=True)
class _Evaluation:
    config: Config
    shards: Shards
    documents: DocumentSource
    tokenizer: Tokenizer
    say: Callable[[str], None]

    def check_sentences(self) -> None:
        """Raise `ModelError` where a model cannot generate the longest sentence."""
        longest = longest_sentence(self.documents)
        for name in ("vae", "sllm"):
            if (path := getattr(self.config.models, name)) is not None:
                check_longest(longest, sentence_limit(path, name), f"{self.config.shards} and {path}: ")

    def unigram(self) -> dict[str, Any]:
        nll_N = unigram_nll(self.shards.documents("train"), self.documents, self.tokenizer.vocab_size)
        return self._likelihood(nll_N)

    def token_lm(self, path: str) -> dict[str, Any]:
        self.say("token-level model")
        model = load_causal_lm(path, self.config.trunk)
        context = self.config.lm.context_tokens
        source = TokenWindows(self.documents, context, *self._bos_eos, overlap=min(context // 2, context - 2))
        nll_N = token_lm_nll(TokenLm(model).to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return self._likelihood(nll_N) | {"parameters": num_parameters(model)}

    def vae(self, path: str) -> dict[str, Any]:
        self.say("SentenceVAE")
        model = saved_model(path, SentenceVae, "vae")
        source = SentenceWindows(self.documents, self.config.sllm.context_sentences, *self._bos_eos)
        figures = reconstruction(model.to(_device()), source, self.config.evaluate.micro_batch_tokens)
        return figures.as_dict() | {"parameters": num_parameters(model)} | self._segmenters(model)

    def sllm(self, path: str) -> Figures:
        model = saved_model(path, Sllm, "sllm")
        model.to(_device())
        context = model.config.context_sentences
        source = SentenceWindows(
            self.documents, context, *self._bos_eos, context // 2, model.vae.decoder_reach
        )
        ablations: list[Ablation] = ["none"]
        if self.config.evaluate.ablations:
            ablations += ["zeroed", "shuffled"] if has_other_documents(self.documents) else ["zeroed"]
        if self.config.evaluate.ablations and "shuffled" not in ablations:
            self.say("no latents of another document, since there is only one document")
        figures: Figures = {}
        for ablation in ablations:
            name = "sllm" if ablation == "none" else f"sllm_latents_{ablation}"
            self.say(name)
            nll_N = sllm_nll(model, source, self.config.evaluate.micro_batch_tokens, ablation)
            own = {"parameters": num_parameters(model)} | self._segmenters(model.vae)
            figures[name] = self._likelihood(nll_N) | own
        return figures

    def _likelihood(self, nll_N: Float64) -> dict[str, Any]:
        """Figures of the documents, and the number of those whose text differs after decoding their ids."""
        lossy = self.shards.manifest.totals["dev"].lossy_documents
        return likelihood(self.documents, nll_N).as_dict() | ({"lossy_documents": lossy} if lossy else {})

    def _segmenters(self, vae: SentenceVae) -> dict[str, str]:
        own, of_shards = vae.config.segmenter, self.shards.manifest.segmenter
        return {} if own in (None, of_shards) else segmenters_of(own, of_shards)

    @property
    def _bos_eos(self) -> tuple[int, int]:
        return self.tokenizer.bos_id, self.tokenizer.eos_id


def segmenters_of(own: dict[str, Any], of_shards: dict[str, Any]) -> dict[str, str]:
    """Names of two segmenters; if they are equal, also the first difference."""
    if own["name"] != of_shards["name"]:
        return {"segmenter": own["name"], "shards_segmenter": of_shards["name"]}
    names = [json.dumps(each, sort_keys=True) for each in (own, of_shards)]
    return dict(zip(("segmenter", "shards_segmenter"), names, strict=True))


def _device() -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
