"""A worker of `sllm evaluate`: it holds one model at a time and scores micro-batches of dev documents."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.config import Config
from pipeline.evaluation.ablations import Ablation, OtherDocuments
from pipeline.evaluation.controls.continuous_cache import fitted_nll, scored_positions
from pipeline.evaluation.flops import num_parameters
from pipeline.evaluation.likelihood import select_documents, token_counts
from pipeline.evaluation.scoring import (
    Float64,
    Reconstructed,
    TokenScores,
    reconstruct,
    score_sentences,
    score_tokens,
)
from pipeline.models.device import device_for, device_name
from pipeline.models.model_folder import with_local_models
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.shards.reading import Shards, open_shards
from pipeline.stream.order import MicroBatch, in_order
from pipeline.stream.windows import Int64, SentenceWindows, TokenWindows

ModelName = Literal["lm", "vae", "sllm"]


@dataclass(frozen=True)
class Part:
    """Some micro-batches of the dev documents under one model: what a worker scores at once."""

    model: ModelName
    start: int
    end: int
    ablation: Ablation = "none"

    def __str__(self) -> str:
        return f"micro-batches {self.start} to {self.end - 1} under {self.model}"


@dataclass(frozen=True)
class Description:
    """A model, and how much there is to score with it."""

    parameters: int
    segmenter: dict[str, Any] | None
    """Fingerprint of the segmenter of its training data; None for a token-level model."""
    micro_batch_tokens: tuple[int, ...]
    """Document tokens of each micro-batch."""
    device: str
    """Name of the GPU, or `CPU`."""


class Evaluator:
    """Scores micro-batches under the models of a configuration."""

    def __init__(self, config: Config, shards: Shards, device: torch.device) -> None:
        self._config, self._shards, self._device = with_local_models(config), shards, device
        self._loaded: tuple[ModelName, _Loaded] | None = None

    @classmethod
    def load(cls, config: Config) -> "Evaluator":
        """An evaluator in a process of its own, which has a GPU if the configuration asks for one."""
        (folder,) = config.shard_folders
        shards = open_shards(folder, config.stream)
        return cls(config, shards, device_for(config.ray.use_gpu))

    def describe(self, model: ModelName) -> Description:
        """Load a model and describe it."""
        loaded = self._load(model)
        return Description(
            num_parameters(loaded.model),
            loaded.segmenter,
            tuple(micro_batch.tokens for micro_batch in loaded.micro_batches),
            device_name(self._device),
        )

    def score(self, part: Part) -> list[TokenScores]:
        """The NLL of the tokens of each micro-batch of a part."""
        loaded = self._load(part.model)
        micro_batches = loaded.micro_batches[part.start : part.end]
        if isinstance(loaded.model, TokenLm):
            assert isinstance(loaded.source, TokenWindows)
            return list(score_tokens(loaded.model, loaded.source, micro_batches))
        assert isinstance(loaded.model, Sllm) and isinstance(loaded.source, SentenceWindows)
        others = loaded.others if part.ablation == "shuffled" else None
        return list(score_sentences(loaded.model, loaded.source, micro_batches, part.ablation, others))

    def reconstruct(self, part: Part) -> list[Reconstructed]:
        """What the SentenceVAE reconstructs of each micro-batch of a part."""
        loaded = self._load(part.model)
        assert isinstance(loaded.model, SentenceVae)
        return list(reconstruct(loaded.model, loaded.micro_batches[part.start : part.end]))

    def cached(self, model: ModelName) -> Float64:
        """The NLL (nats) of each dev document [N] with a continuous cache of `evaluate.cache_tokens` positions."""
        loaded, options = self._load(model), self._config.evaluate
        assert isinstance(loaded.model, TokenLm | Sllm)
        _, positions = scored_positions(loaded.model.eval(), loaded.source, options.micro_batch_tokens)
        return fitted_nll(positions, options.cache_tokens)

    def count_tokens(self, train_shards: Sequence[int]) -> Int64:
        """How often each token occurs in these shards of the train split [V]."""
        documents = self._shards.documents("train", train_shards)
        return token_counts(documents, self._shards.tokenizer().vocab_size)

    def _load(self, name: ModelName) -> "_Loaded":
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # frees the memory of the model before
            self._loaded = name, self._read(name)
        return self._loaded[1]

    def _read(self, name: ModelName) -> "_Loaded":
        config, path = self._config, str(getattr(self._config.models, name))
        documents = select_documents(self._shards.documents("dev"), config.evaluate.max_documents)
        tokenizer = self._shards.tokenizer()
        bos_eos = tokenizer.bos_id, tokenizer.eos_id
        model: TokenLm | SentenceVae | Sllm
        source: TokenWindows | SentenceWindows
        if name == "lm":
            model, segmenter = TokenLm(load_causal_lm(path, config.trunk)), None
            context = config.lm.context_tokens
            overlap, memory = min(context // 2, context - 2), model.memory(context)
            source = TokenWindows(documents, context, *bos_eos, overlap, memory)
        elif name == "vae":
            model = saved_model(path, SentenceVae, "vae")
            segmenter = model.config.segmenter
            source = SentenceWindows(documents, config.sllm.context_sentences, *bos_eos)
        else:
            model = saved_model(path, Sllm, "sllm")
            segmenter = model.vae.config.segmenter
            context = model.config.context_sentences
            source = SentenceWindows(documents, context, *bos_eos, context // 2, model.decoder_reach)
        micro_batches = list(in_order(source, config.evaluate.micro_batch_tokens))
        torch.nn.Module.to(model, self._device)
        return _Loaded(model, segmenter, source, micro_batches)


@dataclass(frozen=True)
class _Loaded:
    model: TokenLm | SentenceVae | Sllm
    segmenter: dict[str, Any] | None
    source: TokenWindows | SentenceWindows
    micro_batches: list[MicroBatch]

    @functools.cached_property
    def others(self) -> OtherDocuments:
        """Windows of other documents, for latents that are not a document's own."""
        assert isinstance(self.source, SentenceWindows)
        return OtherDocuments(self.source)
