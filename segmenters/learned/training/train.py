"""The whole training of the learned segmenter: texts held out, both networks, the threshold, the model card.

In one process, without Ray or MLflow.
"""

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segmenters.learned.networks import FIRST_WORD, word_rows
from segmenters.learned.segmenter import Learned
from segmenters.learned.training.augmentation import mixed, stripped
from segmenters.learned.training.examples import Example, pieces, read_gold, read_raw
from segmenters.learned.training.features import Report, features_of, neighbour_vectors, vocabulary
from segmenters.learned.training.model_card import model_card
from segmenters.learned.training.punctuated import PunctuatedSettings, train_punctuated
from segmenters.learned.training.unpunctuated import UnpunctuatedSettings, train_unpunctuated
from segmenters.learned.weights_file import load_weights, save_weights
from segmenters.scoring import score

WEIGHTS_NAME = "segmenter.safetensors"
CARD_NAME = "MODEL_CARD.md"
_SHIFTS = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1)
"""Log-odds that are tried, on texts held out, for positions far from any punctuation."""

Texts = dict[str, list[Example]]
"""Examples by the path of their file."""


@dataclasses.dataclass(frozen=True)
class SegmenterTraining:
    """The data and settings of a training."""

    gold: Mapping[str, float]
    """Files with known boundaries, and how often the texts of each are used."""
    raw: Mapping[str, float]
    """JSONL files with `text`, and how often the texts of each are used."""
    punctuated: PunctuatedSettings
    unpunctuated: UnpunctuatedSettings
    start_from: Path | None
    """Weights to adapt; none: from scratch."""
    held_out_fraction: float
    """Share of the texts of each gold file that is held out for scoring."""
    num_threads: int | None
    """Threads of torch; None: torch's choice."""
    seed: int
    licence_note: str
    """Sentence on the licences of the data, for the model card."""

    def train(self, output: Path, shown: Mapping[str, object], report: Report) -> dict[str, float]:
        """Train, and write weights and card into the folder `output`; returns F1 on the texts held out.

        `shown` are the settings that the card lists. Raises `SegmenterError` for a file that cannot be used.
        """
        rng = random.Random(self.seed)
        gold, held_out = divided(self.gold, self.held_out_fraction, rng)
        raw = {path: list(read_raw(Path(path))) for path in self.raw}
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        tensors, sizes = self._trained(gold, raw, rng, report)
        file = output / WEIGHTS_NAME
        hard = {path: [stripped(text, rng) for text in texts] for path, texts in held_out.items()}
        everything_hard = [text for texts in hard.values() for text in texts]

        def f1_at(shift: float) -> float:
            save_weights(file, tensors, {**sizes, "name": Learned.name, "unmarked_shift": str(shift)})
            load_weights.cache_clear()
            return score(Learned(weights=str(file)), everything_hard).f1

        best_shift = max(_SHIFTS, key=f1_at)
        f1_at(best_shift)  # leaves the file with this one

        segmenter = Learned(weights=str(file))
        scores: dict[str, float] = {}
        for path, texts in held_out.items():
            name = Path(path).name.split(".")[0]
            scores[f"held_out/{name}/f1"] = score(segmenter, texts).f1
            scores[f"held_out/{name}-stripped/f1"] = score(segmenter, hard[path]).f1
        used = {path: sum(len(text.text) for text in texts) for path, texts in {**gold, **raw}.items()}
        card = model_card(file, used, scores, self.held_out_fraction, self.licence_note, shown)
        (output / CARD_NAME).write_text(card, encoding="utf-8")
        return scores

    def _trained(
        self, gold: Texts, raw: Texts, rng: random.Random, report: Report
    ) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Both networks and their vocabulary, as a weights file names them, and the size of the window."""
        gold_parts, raw_parts = _sampled(gold, self.gold, rng), _sampled(raw, self.raw, rng)
        everything = [text for texts in (*gold.values(), *raw.values()) for text in texts]
        word_W = np.concatenate([features_of(text).word_W for text in everything])
        start = load_weights(self.start_from) if self.start_from is not None else None
        check_V = vocabulary([word_W], start.check_V if start else None)
        rows_W = np.where(word_W > 0, word_rows(word_W, check_V), 0)
        vectors = neighbour_vectors(rows_W, len(check_V) + FIRST_WORD, self.unpunctuated.width, self.seed)
        punctuated = train_punctuated(
            mixed(gold_parts, raw_parts, self.seed),
            self.punctuated,
            check_V,
            start.punctuated if start else None,
            vectors,
            report,
        )
        unpunctuated = train_unpunctuated(
            gold_parts,
            raw_parts,
            self.unpunctuated,
            check_V,
            start.unpunctuated if start else None,
            vectors,
            report,
        )
        sizes = {"before": str(self.punctuated.before), "after": str(self.punctuated.after)}
        return {"word.check": check_V, **punctuated.tensors(), **unpunctuated.tensors()}, sizes


def divided(paths: Mapping[str, float], held_out_fraction: float, rng: random.Random) -> tuple[Texts, Texts]:
    """By gold file the texts to train on, and those held out (at least one of each, where there are two)."""
    gold, held_out = Texts(), Texts()
    for path in paths:
        texts = list(read_gold(Path(path)))
        rng.shuffle(texts)
        count = min(max(round(held_out_fraction * len(texts)), 1), len(texts) - 1)
        held_out[path], gold[path] = texts[:count], texts[count:]
    return gold, held_out


def _sampled(texts: Texts, weights: Mapping[str, float], rng: random.Random) -> list[Example]:
    """Parts of the texts; the weight of a file is how often its parts are used on average."""
    parts = []
    for path, examples in texts.items():
        for part in (part for example in examples for part in pieces(example)):
            parts += [part] * (int(weights[path]) + (rng.random() < weights[path] % 1))
    return parts
