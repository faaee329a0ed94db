"""What trained models are used for."""

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.paths import PathString
from pipeline.config.section import Count, CountOrZero, Section, Seed


class ModelsConfig(Section):
    """Folders or fsspec URLs of trained models that a job reads."""

    lm: PathString | None = None
    """The token-level model."""
    vae: PathString | None = None
    """The SentenceVAE."""
    sllm: PathString | None = None
    """The sentence-level model."""


class EvaluateConfig(Section):
    """What is measured on the dev split."""

    max_documents: Count | None = None
    """Documents of the dev split, from its start; none: all."""
    micro_batch_tokens: Count = 8192
    """Largest number of document tokens evaluated in a micro-batch; context-only tokens are not counted."""
    ablations: bool = True
    """Also evaluate the SLLM with its predicted latents zeroed, and with those of another document."""
    cache_tokens: CountOrZero = 0
    """Also evaluate the token-level model and the SLLM with a continuous cache (arXiv 1612.04426) of so many of the
    document's last positions at test time; 0: not. One worker holds 4 bytes per dev token and hidden unit."""


class GenerateConfig(Section):
    """How text is generated."""

    prompt: str = ""
    """Text to continue. Empty: generation starts from the start vector."""
    max_sentences: Count = 16
    """Largest number of generated sentences."""
    max_sentence_tokens: Count | None = None
    """Largest number of tokens per sentence; none: the limit of the shards."""
    max_tokens: Count = 1024
    """Largest number of generated tokens in all."""
    temperature: float = Field(default=0.0, ge=0, le=1e3)
    """0 is greedy; else at least 0.001."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: probability mass of the tokens that are sampled from."""
    seed: Seed = 0
    """Seed of the sampling."""
    weights: Literal["fp32", "bf16", "int8"] = "fp32"
    """Weights during generation. A single document is generated at the speed at which weights are read from memory, and
    bf16 has half as many bytes as fp32. int8 is for CPUs, with a scale per row of a matrix."""

    @field_validator("temperature")
    @classmethod
    def _not_tiny(cls, value: float) -> float:
        if 0 < value < 1e-3:
            raise ValueError("a temperature below 0.001 is greedy in effect: set 0")
        return value
