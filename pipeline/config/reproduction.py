"""What `sllm reproduce` trains and scores."""

from pydantic import Field

from pipeline.config.section import Bytes, Count, Section


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
