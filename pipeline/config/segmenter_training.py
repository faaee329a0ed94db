"""How the learned segmenter is trained."""

from typing import Literal

from pydantic import Field

from pipeline.config.paths import PathString
from pipeline.config.section import Count, Section, Seed


class SegmenterSource(Section):
    """A file that a learned segmenter is trained on."""

    path: PathString
    """The file, gzip or plain."""
    weight: float = Field(default=1.0, gt=0, le=1e12)
    """How often each text is used: 2 means twice, 0.5 means half of the texts, chosen by the seed. Of `learned_v2`: the
    weight of a gold file's texts in the loss."""


class SegmenterTrainConfig(Section):
    """How a learned segmenter is trained."""

    segmenter: Literal["learned_v1", "learned_v2"] = "learned_v1"
    """The segmenter whose weights are made. `learned_v2` takes no `start_from`; its network for unpunctuated text is
    that of the shipped `learned_v1`, but for Chinese and Japanese."""
    gold: tuple[SegmenterSource, ...] = ()
    """Files with known boundaries: JSONL with `text` and `ends`, or CoNLL-U."""
    raw: tuple[SegmenterSource, ...] = ()
    """JSONL files with `text`, for self-supervision: boundaries are those of the rule `punctuation_v1`, and the
    punctuation is then removed. Of `learned_v2`: for the statistics of words, without boundaries; those in Chinese and
    Japanese also as for `learned_v1`, and `weight` is their share."""
    start_from: PathString | None = None
    """Weights to adapt: a file, or `shipped`; none: from scratch."""
    held_out_fraction: float = Field(default=0.06, gt=0, lt=1)
    """Share of the texts of each gold file that is held out for scoring."""
    steps: Count = 1200
    """Optimizer steps of the network for punctuated text, of 8,192 words and punctuation marks each; of `learned_v2`,
    of 8,192 places."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1e12)
    """Peak learning rate of a one-cycle schedule."""
    unpunctuated_steps: Count = 2000
    """Optimizer steps of the network for unpunctuated text, of 8,192 words each; of `learned_v2`, of that for Chinese
    and Japanese, where a labelled file is in them."""
    unpunctuated_learning_rate: float = Field(default=2e-3, gt=0, le=1e12)
    """Its peak learning rate."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout on the embeddings."""
    word_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of words that each step replaces by an unknown word."""
    weight_decay: float = Field(default=0.1, ge=0, le=1e12)
    """AdamW weight decay, on matrices only."""
    num_threads: Count | None = None
    """Threads of torch; the weights are reproduced exactly for the same number. None: torch's choice."""
    seed: Seed = 0
    """Seed of the choice of texts, the weights and the order."""
    licence_note: str = ""
    """Sentence on the licences of the data, for the model card."""
