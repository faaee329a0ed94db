"""How a SentenceVAE is grafted onto a pretrained language model."""

from typing import Literal

from pipeline.config.section import Bytes, Count, Section, Share

Control = Literal["fresh-trunk", "fresh-decoder"]


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
    controls: tuple[Control, ...] = ("fresh-trunk", "fresh-decoder")
    """Models trained beside it on as many tokens: `fresh-trunk` has a trunk of the same shape with fresh weights,
    trained whole from its first step; `fresh-decoder` a decoder with fresh weights. Each takes about as long as the
    model itself."""
