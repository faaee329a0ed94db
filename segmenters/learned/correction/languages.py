"""Whether a text is in a language that the network was trained on.

Each known word stands for the language in which it is most frequent. A text in a trained language has many words of
it; a text in another language has fewer, of several languages.

Shape suffixes: M places, K words, V buckets, L languages, T texts.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segmenters.learned.correction.words import Hashes, rows_of

WORDS_OF_LANGUAGE = 4
"""The first of the words around a place: whole words, two on each side."""
RECOGNISED = 0.4
"""Least share of words of its language in a text, relative to that in the texts of the language in training."""
_PRIOR_WORDS, _PRIOR = 8, 0.6
"""Words that each text is taken to have besides its own, and this share among them: a few words tell little."""


@dataclasses.dataclass(frozen=True)
class Languages:
    """The languages that were trained on."""

    of_words: tuple[NDArray[np.uint16], ...]
    """For each of `WORDS_OF_LANGUAGE` `[V + 1]` the language of the word in each row, from 1 on; 0 for none."""
    share_L: NDArray[np.float32]
    """Share of words of each language in its own texts; infinite for a language that is never recognised."""

    def recognised(
        self, rows_MK: NDArray[np.int64], words_MK: Hashes, text_M: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """`[M]` whether the text of each place is in one of the languages; `rows_MK` are 0 for unknown words."""
        size = len(self.share_L) + 1
        texts = int(text_M[-1]) + 1 if len(text_M) else 0
        counts = np.zeros(texts * size, np.int64)
        total_T = np.zeros(texts, np.int64)
        for number, language_V in enumerate(self.of_words):
            counts += np.bincount(text_M * size + language_V[rows_MK[:, number]], minlength=texts * size)
            total_T += np.bincount(text_M, words_MK[:, number] > 0, texts).astype(np.int64)
        counts_TL = counts.reshape(texts, size)[:, 1:]
        language_T = counts_TL.argmax(1)
        least_T = np.maximum(RECOGNISED * (total_T + _PRIOR_WORDS) - _PRIOR * _PRIOR_WORDS, 1)
        return (counts_TL.max(1) >= np.maximum(least_T * self.share_L[language_T], 1))[text_M]


def languages_of(
    words: Mapping[str, Sequence[Hashes]],
    checks: Sequence[NDArray[np.uint16]],
    never: Collection[str] = (),
) -> Languages:
    """The languages of the words of training texts: `[M, K]` hashes of each text or file, by language. Those of
    `never` are not recognised."""
    rows = {
        name: [
            np.concatenate([rows_of(one[:, number], checks[number]) for one in parts])
            for number in range(WORDS_OF_LANGUAGE)
        ]
        for name, parts in words.items()
    }
    of_words = []
    for number in range(WORDS_OF_LANGUAGE):
        size = len(checks[number]) + 1
        counts_LV = np.stack([np.bincount(found[number], minlength=size) for found in rows.values()])
        frequency_LV = counts_LV / np.maximum(counts_LV.sum(1, keepdims=True), 1)
        language_V = np.where(frequency_LV.max(0) > 0, frequency_LV.argmax(0) + 1, 0).astype(np.uint16)
        language_V[0] = 0
        of_words.append(language_V)
    shares = []
    for language, name in enumerate(words, 1):
        own = sum(int((of_words[k][rows[name][k]] == language).sum()) for k in range(WORDS_OF_LANGUAGE))
        total = sum(int((one[:, :WORDS_OF_LANGUAGE] > 0).sum()) for one in words[name])
        shares.append(own / max(total, 1) if name not in never else np.inf)
    return Languages(tuple(of_words), np.array(shares, np.float32))
