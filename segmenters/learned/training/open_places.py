"""Features and labels of the open places of examples, and the statistics of words, for the training of `learned_v2`.

Shape suffixes: N characters, M places, V buckets, E examples.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import SEPARATOR, WINDOW
from segmenters.characters import Kind
from segmenters.learned.correction.network import ABBREVIATIONS, CASES, Statistics
from segmenters.learned.correction.places import Places, places
from segmenters.learned.correction.words import WordIndex, checks
from segmenters.learned.training.examples import Example
from segmenters.rules.kinds import classified
from segmenters.rules.segmenter import PunctuationV2


@dataclasses.dataclass(frozen=True)
class OpenPlaces:
    """The open places of examples."""

    places: Places
    label_M: NDArray[np.bool_]
    """Whether a sentence begins there."""
    weight_M: NDArray[np.float32]
    """Weight in the loss."""


def open_places(examples: Iterable[Example]) -> OpenPlaces:
    """The open places of all examples, in order, in batches of about `WINDOW` characters."""
    found, labels, weights = list[Places](), list[NDArray[np.bool_]](), list[NDArray[np.float32]]()
    rule = PunctuationV2()
    for part in _batches(examples):
        batch = SEPARATOR + SEPARATOR.join(example.text for example in part) + SEPARATOR
        sizes = [len(example.text) + len(SEPARATOR) for example in part]
        text_starts = np.cumsum([len(SEPARATOR), *sizes[:-1]])
        code_N, kind_N = classified(batch)
        one = places(code_N, kind_N, rule.sentence_starts(batch, text_starts), text_starts)
        ends = [
            np.array(example.ends, np.int64) + start
            for example, start in zip(part, text_starts.tolist(), strict=True)
        ]
        solid = np.flatnonzero(kind_N > Kind.BREAK)
        after = np.concatenate(ends)
        begin = solid[np.minimum(np.searchsorted(solid, after), len(solid) - 1)]
        found.append(one)
        labels.append(np.isin(one.at_M, begin))
        example_M = np.searchsorted(text_starts, one.at_M, side="right") - 1
        weights.append(np.array([example.weight for example in part], np.float32)[example_M])
    if not found:
        nothing = places(*classified(SEPARATOR), np.empty(0, np.int64), np.ones(1, np.int64))
        return OpenPlaces(nothing, np.empty(0, np.bool_), np.empty(0, np.float32))
    return OpenPlaces(
        Places(*(np.concatenate(column) for column in zip(*found, strict=True))),
        np.concatenate(labels),
        np.concatenate(weights),
    )


def _batches(examples: Iterable[Example]) -> Iterator[Sequence[Example]]:
    part, size = list[Example](), 0
    for example in examples:
        if not example.text.strip():
            continue
        part.append(example)
        size += len(example.text)
        if size >= WINDOW:
            yield part
            part, size = [], 0
    if part:
        yield part


def vocabulary(hash_M: NDArray[np.uint32], least: int, num_buckets: int) -> NDArray[np.uint16]:
    """[V] the check of each bucket: that of its most frequent word, of those that occur at least `least` times."""
    hashes, counts = np.unique(hash_M, return_counts=True)
    frequent = (counts >= least) & (hashes != 0)
    hashes, counts = hashes[frequent], counts[frequent]
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    check_V = np.zeros(num_buckets, np.uint16)
    check_V[(hashes[order] & np.uint32(num_buckets - 1)).astype(np.int64)] = checks(hashes[order])
    return check_V


_LEAST = 4
"""Occurrences from which on a word has statistics."""
_CASE_STEPS = (0.02, 0.1, 0.3, 0.6, 0.85, 0.97)
_ABBREVIATION_STEPS = (0.003, 0.02, 0.08, 0.2, 0.4, 0.7)


def statistics(texts: Iterable[str], num_buckets: int) -> Statistics:
    """The statistics of the words of unlabelled texts: of each how often it is in lower case, and how often a full
    stop, then lower case, a digit or a comma are after it."""
    hashes, lowers, stops = list[NDArray[np.uint32]](), list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    for text in texts:
        batch = f"{SEPARATOR}{text}{SEPARATOR}"
        code_N, kind_N = classified(batch)
        letter_N = (kind_N >= Kind.LOWER) & (kind_N <= Kind.MARK)
        start_W = np.flatnonzero(letter_N[1:] & ~letter_N[:-1]) + 1
        inner_W = (code_N[start_W - 1] == ord(".")) & letter_N[np.maximum(start_W - 2, 0)]
        start_W = start_W[~inner_W]
        if not len(start_W):
            continue
        word = WordIndex(code_N, kind_N).words_from(start_W)
        long_W = letter_N[np.minimum(start_W + word.length_M, len(code_N) - 1)]
        after_W = np.minimum(start_W + word.length_M, len(code_N) - 2)
        stop_W = (code_N[after_W] == ord(".")) & ~long_W
        next_W, second_W = after_W + 1, np.minimum(after_W + 2, len(code_N) - 1)
        goes_on_W = (kind_N[next_W] == Kind.PAUSE) | (kind_N[next_W] == Kind.SPACE) & (
            (kind_N[second_W] == Kind.LOWER) | (kind_N[second_W] == Kind.DIGIT)
        )
        hashes.append(word.hash_M)
        lowers.append(kind_N[start_W] != Kind.UPPER)
        stops.append(stop_W & goes_on_W)
    if not hashes:
        return Statistics(np.zeros(num_buckets, np.uint16), np.zeros(num_buckets + 1, np.uint8))
    hash_M = np.concatenate(hashes)
    check_V = vocabulary(hash_M, _LEAST, num_buckets)
    bucket_M = (hash_M & np.uint32(num_buckets - 1)).astype(np.int64)
    same_M = check_V[bucket_M] == checks(hash_M)
    bucket_M = bucket_M[same_M]
    count_V = np.bincount(bucket_M, minlength=num_buckets)
    lower_V, stop_V = (
        np.bincount(bucket_M, np.concatenate(flags)[same_M], num_buckets) / np.maximum(count_V, 1)
        for flags in (lowers, stops)
    )
    case_V = np.searchsorted(_CASE_STEPS, lower_V) + 1
    abbreviation_V = np.searchsorted(_ABBREVIATION_STEPS, stop_V) + 1
    assert case_V.max() < CASES and abbreviation_V.max() < ABBREVIATIONS
    step_V = np.where(count_V > 0, case_V * ABBREVIATIONS + abbreviation_V, 0)
    return Statistics(check_V, np.append(0, step_V).astype(np.uint8))
