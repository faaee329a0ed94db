"""What is compared, and how: designs, a grafted model with the model itself, the counts of a paper with exact ones."""

import itertools
from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.paths import PathString
from pipeline.config.section import Bytes, Count, CountOrZero, Section, Seed, Share

TrainingVerb = Literal["train-lm", "train-vae", "train-sllm"]
Control = Literal[
    "token-level-twin", "blind-chunks", "no-trunk-prediction", "no-context-attention", "continuous-cache"
]
GraftControl = Literal["fresh-trunk", "fresh-decoder"]


class Variant(Section):
    """One design: its models' configuration, and what is trained for it."""

    title: str
    """Its label in tables and plots. It describes the design by itself, not relative to another."""
    stages: dict[TrainingVerb, Share] = Field(min_length=1)
    """What is trained, one after the other, and the share of the token budget that each stage gets."""
    preset: PathString | None = None
    """YAML file whose sections `trunk`, `lm`, `vae` and `sllm` it takes, or the name of a file in
    `jobs/presets/designs`. None: it takes these sections from the comparison itself."""
    overrides: dict[str, object] = Field(default={})
    """Dotted keys of the configuration and their values; they replace those of the preset."""
    tokens: Bytes | None = None
    """Document tokens that it is trained on, all stages together; none: `compare.tokens`."""
    changed_from: str | None = None
    """Variant from which this one differs in one point; the report shows the difference."""


class CompareConfig(Section):
    """Token-level and sentence-level models side by side: same shards, seed, token budget, documents."""

    variants: dict[str, Variant] = Field(default={})
    """The designs, by the name of their folder."""
    only: tuple[str, ...] = ()
    """Names of the designs to train and compare; none: all."""
    overrides: dict[str, object] = Field(default={})
    """Dotted keys and their values for all designs; they replace those of the presets."""
    controls: tuple[Control, ...] = (
        *("token-level-twin", "blind-chunks", "no-trunk-prediction"),
        *("no-context-attention", "continuous-cache"),
    )
    """What is trained and scored beside each sentence-level design; `[]`, for a quick look: nothing.
    `token-level-twin`: a token-level model of as many layers as the decoder, with the memory of the design over chunks
    of tokens: context attention to as many as it has sentences, or to the last positions of as many as
    `sllm.state_attention_sentences`; where the training FLOPs of the two differ, also one trained with as many FLOPs.
    `blind-chunks`: the design on chunks of as many tokens as a sentence has on average. `no-trunk-prediction`,
    `no-context-attention`: the design trained without that part. `continuous-cache`: a cache of the last positions
    (arXiv 1612.04426) at test time, for all designs."""
    twin: str | None = None
    """Token-level variant from which the twins differ in layers and context attention alone; none: the baseline."""
    cache_tokens: Count = 1024
    """Positions that the continuous cache holds."""
    seeds: tuple[Seed, ...] = ()
    """Each design is trained with each of these seeds in all its stages; the report has mean and standard deviation.
    None: once, with the seeds of its stages."""
    baseline: str | None = None
    """Token-level variant whose bits per byte are 1 in the table; none: the first token-level one."""
    tokens: Bytes = 1_000_000
    """Document tokens that a variant is trained on, all stages together. Steps follow from it."""
    batch_sizes: tuple[Count, ...] = Field(default=(1, 16), min_length=1)
    """Documents generated side by side when speed is measured."""
    generated_tokens: Count = 256
    """Tokens generated in each document when speed is measured."""
    repeats: Count = 3
    """Measurements of each speed, the models in turn; the report shows the median."""
    position_edges: tuple[CountOrZero, ...] = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    """Edges of the bins of bits per byte by position (tokens) in the document, ascending. Where they leave tokens out,
    a bin is added before the first or after the last."""

    @field_validator("position_edges")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if len(edges) < 2 or any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("needs two edges or more, ascending from 0 or above")
        return edges


class GraftConfig(Section):
    """`sllm graft`: a SentenceVAE around a pretrained trunk, in three stages: the SentenceVAE, the SLLM with the trunk
    frozen, the SLLM with LoRA's adapters in the trunk."""

    tokens: Bytes = 6_000_000
    """Document tokens that the model is trained on, all stages together. Steps follow from it."""
    shares: tuple[Share, Share, Share] = (1.0, 2.0, 2.0)
    """Relative share of the tokens for each of the three stages."""
    decoder_layers: Count = 4
    """Layers of the decoder. In a model of the Llama family they start from its own: the first ones, and as many or one
    less of the last ones. In any other model they start from fresh weights."""
    controls: tuple[GraftControl, ...] = ("fresh-trunk", "fresh-decoder")
    """Models trained beside it on as many tokens: `fresh-trunk` has a trunk of the same shape with fresh weights,
    trained whole from its first step; `fresh-decoder` a decoder with fresh weights. Each takes about as long as the
    model itself."""


class ReproduceConfig(Section):
    """Small configurations of a paper, trained and scored as its code does and exactly."""

    sizes: dict[str, dict[str, object]] = Field(default={})
    """Sizes by the name that the paper's table has (`125M`, `350M`, `1.3B`): dotted keys of the configuration and their
    values."""
    vae_layers: tuple[Count, ...] = Field(default=(1, 2, 4), min_length=1)
    """Layers of the sentence encoder, and of the decoder, that each size is trained with."""
    only: tuple[str, ...] = ()
    """Configurations to train, such as `125M-H1`; none: all."""
    tokens: Bytes = 100_000
    """Document tokens that each model is trained on: token-level model, SentenceVAE, sentence-level models."""
    rules_alone: tuple[str, ...] = ()
    """Configurations whose sentence-level model is also trained under each rule alone that the
    published training has."""

    @property
    def names(self) -> list[str]:
        """The configurations to train, in order."""
        every = [self.name(size, layers) for size in self.sizes for layers in self.vae_layers]
        return [name for name in every if name in (self.only or every)]

    @staticmethod
    def name(size: str, layers: int) -> str:
        """The name that the paper gives a configuration."""
        return f"{size}-H{layers}"
