"""What trained models are used for."""

from pydantic import Field

from pipeline.config.paths import LocalPathString
from pipeline.config.section import Section


class ModelsConfig(Section):
    """Folders of trained models that a job reads."""

    lm: LocalPathString | None = None
    """The token-level model."""
    vae: LocalPathString | None = None
    """The SentenceVAE."""
    sllm: LocalPathString | None = None
    """The sentence-level model."""


class EvaluateConfig(Section):
    """What is measured on the dev split."""

    max_documents: int | None = Field(default=None, ge=1)
    """Documents of the dev split, from its start; none: all."""
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Document tokens that a micro-batch scores, at most; context comes on top."""
    ablations: bool = True
    """Also score the SLLM with its predicted latents zeroed, and with those of another document."""


class GenerateConfig(Section):
    """How text is written."""

    prompt: str = ""
    """Text to go on from; empty: from the start vector."""
    max_sentences: int = Field(default=16, ge=1)
    """Sentences written, at most."""
    max_sentence_tokens: int | None = Field(default=None, ge=1)
    """Tokens a sentence, at most; none: the limit the shards were made with."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens written in all, at most."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the distribution that is sampled from."""
    seed: int = 0
    """Seed of the sampling."""
