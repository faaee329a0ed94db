"""The whole training of `learned_v2`: texts held out, statistics of words, the network, the model card.

In one process, without Ray or MLflow.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segmenters.learned.correction.languages import Languages, languages_of
from segmenters.learned.correction.network import Vocabulary
from segmenters.learned.correction.places import WORDS
from segmenters.learned.correction.segmenter import LearnedV2
from segmenters.learned.correction.weights_file import load_weights, save_weights
from segmenters.learned.structure import Structure, regions
from segmenters.learned.training.augmentation import (
    few_final_marks,
    joined_lines,
    lowered,
    raised,
    requoted,
    shuffled,
    singles,
)
from segmenters.learned.training.correction import (
    LEAST_COUNT,
    NUM_BUCKETS,
    CorrectionSettings,
    together,
    train_correction,
)
from segmenters.learned.training.examples import Example, language_of, read_texts
from segmenters.learned.training.features import Report
from segmenters.learned.training.ideographs import (
    IdeographSettings,
    in_ideographs,
    reordered,
    sentences_of,
    texts_of,
    train_ideographs,
)
from segmenters.learned.training.model_card import correction_card
from segmenters.learned.training.open_places import OpenPlaces, open_places, statistics, vocabulary
from segmenters.learned.training.train import CARD_NAME, WEIGHTS_NAME, Texts, divided
from segmenters.learned.training.unpunctuated import UnpunctuatedModule, UnpunctuatedSettings
from segmenters.learned.weights_file import SHIPPED_WEIGHTS as LEARNED_V1
from segmenters.learned.weights_file import load_weights as load_learned_v1
from segmenters.rules.segmenter import PunctuationV2
from segmenters.scoring import score

MARGINS = (1.0, 3.0, 2.5)
"""See `CorrectionNet.margins`. Chosen on texts and on whole languages that were held out of training; the last was then
raised from 2, so that no dev set lost more than .002."""
KEPT_TO_RULE = frozenset({"de", "hr", "id"})
"""Languages in which the network overruled the rule wrongly more often than rightly, on the texts held out of each of
two trainings: the rule decides."""
FEW_MARKS_BY_RULE = 0.5
"""Weight of raw prose with few final marks, relative to that of the same prose as it is."""
STATISTICS_BUCKETS = 2**16
IDEOGRAPHS_SHIFT = 1.6
"""Added to the log-odds of the network for ideographs: between the best on texts held out of known files (0.6 to 1.4)
and of a file that was not trained on (2.4 and more)."""
SOME, ALL = 200_000, 20_000_000
"""Characters of a raw file in which sentences in ideographs are looked for, and the most that are read of one that has
some."""
CHARACTERS_OF_RAW, CHARACTERS_BY_RULE = 3_000_000, 200_000
"""Characters at the start of each raw file that the statistics of words are made of, and that the network is trained on
with the answers of the rule."""


@dataclasses.dataclass(frozen=True)
class CorrectionTraining:
    """The data and settings of a training."""

    gold: Mapping[str, float]
    """Files with known boundaries, and the weight of each."""
    raw: Mapping[str, float]
    """JSONL files with `text`, for the statistics of words; those in ideographs also for the network for text without
    marks, with this share of its raw text."""
    settings: CorrectionSettings
    ideographs: IdeographSettings
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
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        plain = {path: open_places(texts) for path, texts in gold.items()}
        words_MK = np.concatenate([one.places.words_MK for one in plain.values()])
        found = Vocabulary(
            statistics(self._unlabelled(gold), STATISTICS_BUCKETS),
            tuple(vocabulary(words_MK[:, k], LEAST_COUNT, NUM_BUCKETS[k]) for k in range(len(WORDS))),
        )
        languages = _languages(plain, found)
        parts = [part for path in gold for part in self._weighted(path, gold[path], plain[path], rng)]
        parts += [part for path in self.raw for part in _by_rule(path, random.Random(self.seed))]
        module = train_correction(together(parts), found, self.settings, report)
        ideographs = self._ideographs(gold, rng)
        unmarked = load_learned_v1(LEARNED_V1)
        copy = UnpunctuatedModule(UnpunctuatedSettings(), len(unmarked.check_V))
        copy.load(unmarked.unpunctuated)
        tensors: dict[str, NDArray[Any]] = {
            "word.check": unmarked.check_V,
            **module.tensors(),
            "languages.share": languages.share_L,
            **{f"languages.word{number}": one for number, one in enumerate(languages.of_words)},
            **copy.tensors(),
        }
        if ideographs:
            tensors |= train_ideographs(ideographs, self.ideographs, report).tensors()
        metadata = {
            "name": LearnedV2.name,
            "features": str(found.num_features),
            "margins": " ".join(map(str, MARGINS)),
            "unmarked_shift": str(unmarked.unpunctuated_shift),
        }
        if ideographs:
            metadata["ideographs_shift"] = str(IDEOGRAPHS_SHIFT)
        file = output / WEIGHTS_NAME
        save_weights(file, found, tensors, metadata)
        load_weights.cache_clear()

        segmenter, rule = LearnedV2(weights=str(file)), PunctuationV2()
        scores: dict[str, float] = {}
        for path, texts in held_out.items():
            name = Path(path).name.split(".")[0]
            scores[f"held_out/{name}/f1"] = score(segmenter, texts).f1
            scores[f"held_out/{name}/f1_of_rule"] = score(rule, texts).f1
        used = {path: sum(len(text.text) for text in texts) for path, texts in gold.items()}
        used |= {path: sum(map(len, read_texts(Path(path), CHARACTERS_OF_RAW))) for path in self.raw}
        card = correction_card(file, used, scores, self.held_out_fraction, self.licence_note, shown)
        (output / CARD_NAME).write_text(card, encoding="utf-8")
        return scores

    def _ideographs(self, gold: Texts, rng: random.Random) -> list[tuple[list[Example], float]]:
        """Texts in ideographs, with the share of each file; none where no labelled file is in ideographs."""
        found: list[tuple[list[Example], float]] = []
        labelled = {path: texts for path, texts in gold.items() if in_ideographs([one.text for one in texts])}
        if labelled:
            counts = {path: sum(len(one.ends) for one in texts) for path, texts in labelled.items()}
            for path, texts in labelled.items():
                share = self.ideographs.labelled_share * counts[path] / sum(counts.values())
                found.append((list(reordered(texts, rng, 4)), share))
            raw = {path: sentences_of(Path(path), ALL) for path in self.raw if sentences_of(Path(path), SOME)}
            weight = sum(self.raw[path] for path in raw)
            for path, listed in raw.items():
                share = (1 - self.ideographs.labelled_share) * self.raw[path] / weight
                found.append((list(reordered(texts_of(listed), rng, 2)), share))
        return found

    def _unlabelled(self, gold: Texts) -> Iterator[str]:
        for path in self.raw:
            yield from read_texts(Path(path), CHARACTERS_OF_RAW)
        for texts in gold.values():
            yield from (text.text for text in texts)

    def _weighted(
        self, path: str, texts: list[Example], plain: OpenPlaces, rng: random.Random
    ) -> Iterator[OpenPlaces]:
        """The places of the texts as they are and augmented. A file with 4 times the places has twice the weight."""
        balance = self.gold[path] * max(len(plain.label_M), 1) ** -0.5
        yield _with_weight(plain, 2 * balance)
        for augment, weight in (
            (shuffled, 1.0),
            (few_final_marks, 0.4),
            (joined_lines, 0.4),
            (requoted, 0.3),
            (lowered, 0.25),
            (raised, 0.1),
        ):
            yield _with_weight(open_places(augment(text, rng) for text in texts), weight * balance)
        yield _with_weight(open_places(one for text in texts for one in singles(text, rng, 0.5)), balance)


def _languages(plain: Mapping[str, OpenPlaces], found: Vocabulary) -> Languages:
    words: dict[str, list[NDArray[np.uint32]]] = {}
    for path, one in plain.items():
        words.setdefault(language_of(Path(path)), []).append(one.places.words_MK)
    return languages_of(words, found.checks, KEPT_TO_RULE)


def _by_rule(path: str, rng: random.Random) -> Iterator[OpenPlaces]:
    """The places of the prose of a raw file with the answers of the rule, so that the network keeps to it in technical
    text, and of the same prose where few sentences lack their final marks."""
    texts = [
        text[region.start : region.end]
        for text in read_texts(Path(path), CHARACTERS_BY_RULE)
        for region in regions(text)
        if region.structure is Structure.PROSE
    ]
    ends = PunctuationV2().split(texts)
    examples = [Example(text, tuple(one.tolist())) for text, one in zip(texts, ends, strict=True)]
    data = open_places(examples)
    balance = max(len(data.label_M), 1) ** -0.5
    yield _with_weight(data, balance)
    yield _with_weight(
        open_places(few_final_marks(one, rng) for one in examples), FEW_MARKS_BY_RULE * balance
    )


def _with_weight(data: OpenPlaces, weight: float) -> OpenPlaces:
    return dataclasses.replace(data, weight_M=np.full(len(data.label_M), weight, np.float32))
