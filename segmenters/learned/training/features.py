"""What the training of both networks begins with: units of examples, their vocabulary, first word embeddings."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segmenters.batching import SEPARATOR
from segmenters.learned.features import Units, units
from segmenters.learned.networks import FIRST_WORD, word_check
from segmenters.learned.training.examples import Example
from segmenters.punctuation import Punctuation

Report = Callable[[dict[str, float]], None]
"""Told of `step` and metrics."""


def units_of(example: Example) -> Units:
    """Its units, with `PADDING` around them."""
    batch = SEPARATOR + example.text + SEPARATOR
    starts = np.array([len(SEPARATOR)], np.int64)
    return units(batch, starts, Punctuation().places(batch, starts))


NUM_WORDS = 2**15
"""Buckets of the vocabulary: a power of two."""
_MIN_WORD_COUNT = 3


def vocabulary(
    words: Iterable[NDArray[np.uint64]], known_V: NDArray[np.uint16] | None, num_words: int = NUM_WORDS
) -> NDArray[np.uint16]:
    """The check of each bucket: that of `known_V`, else of the most frequent word that falls into it."""
    hashes, counts = np.unique(np.concatenate(list(words)), return_counts=True)
    frequent = (counts >= _MIN_WORD_COUNT) & (hashes != 0)
    hashes, counts = hashes[frequent], counts[frequent]
    check_V = np.zeros(num_words, np.uint16)
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    bucket = (hashes[order] & np.uint64(num_words - 1)).astype(np.int64)
    check_V[bucket] = word_check(hashes[order], num_words)
    return check_V if known_V is None else np.where(known_V > 0, known_V, check_V)


def labels(row: Units, example: Example) -> NDArray[np.bool_]:
    """For each unit whether a sentence begins with it."""
    real = np.flatnonzero(row.start_U >= 0)
    ends = np.array([end for end in example.ends if end < len(example.text)], np.int64) + len(SEPARATOR)
    first = np.searchsorted(row.start_U[real], ends)
    label_U = np.zeros(len(row.start_U), np.bool_)
    label_U[real[first[first < len(real)]]] = True
    return label_U


_FREQUENT_WORDS = 600
"""That others are first compared by: how often each stands one and two places before and behind."""


def neighbour_vectors(word_U: NDArray[np.int64], num_rows: int, width: int, seed: int) -> NDArray[np.float32]:
    """A vector `[num_rows, width]` for each row of a word table, the most telling columns first; 0 where unseen.

    The principal parts of which frequent words stand beside each word: words that may stand in the same places come
    near each other, which few gold boundaries could not teach. (Positive pointwise mutual information, then a
    randomised singular value decomposition.)
    """
    counts_V = np.bincount(word_U, minlength=num_rows)[FIRST_WORD:]
    num_frequent = min(_FREQUENT_WORDS, np.count_nonzero(counts_V))
    frequent = np.argsort(-counts_V, kind="stable")[:num_frequent] + FIRST_WORD
    column = np.full(num_rows, -1)
    column[frequent] = np.arange(len(frequent))
    parts = []
    for offset in (-2, -1, 1, 2):
        near_U = column[np.roll(word_U, -offset)]
        seen = (near_U >= 0) & (word_U >= FIRST_WORD)
        pairs = word_U[seen].astype(np.int64) * len(frequent) + near_U[seen]
        found = np.bincount(pairs, minlength=num_rows * len(frequent)).reshape(num_rows, -1)
        parts.append(found.astype(np.float32))
    counts = np.concatenate(parts, axis=1)
    expected = counts.sum(1, keepdims=True) @ counts.sum(0, keepdims=True) / max(counts.sum(), 1)
    information = np.log(np.maximum(counts, 1e-9) / np.maximum(expected, 0.05)).clip(min=0)
    basis = np.random.default_rng(seed).standard_normal((information.shape[1], width + 8)).astype(np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(information.T @ (information @ basis))
    left, values, _ = np.linalg.svd(information @ basis, full_matrices=False)
    vectors = np.zeros((num_rows, width), np.float32)
    columns = min(width, left.shape[1])
    vectors[:, :columns] = (left * np.sqrt(values))[:, :columns]
    vectors[counts.sum(1) == 0] = 0
    return vectors


@torch.no_grad()
def set_words(embedding: nn.Embedding, vectors_VE: NDArray[np.float32]) -> None:
    """Let words begin as these vectors (their first columns), scaled like the random values they replace."""
    chosen = torch.from_numpy(vectors_VE[:, : embedding.embedding_dim].copy())
    seen_V = chosen.abs().sum(1) > 0
    if seen_V.any():
        scale = float(embedding.weight.std()) / max(float(chosen[seen_V].std()), 1e-9)
        embedding.weight[seen_V] = chosen[seen_V] * scale


def optimizer_of(
    module: nn.Module, learning_rate: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, weight decay on matrices only, and one cycle of the learning rate over all steps."""
    matrices = [p for p in module.parameters() if p.dim() > 1]
    vectors = [p for p in module.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=learning_rate,
    )
    # Some warm-up also in the shortest runs; one of exactly a step would divide by zero.
    warmup = min(0.75, max(0.05, 2 / steps))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=warmup
    )
    return optimizer, schedule


class Meter:
    """The mean loss since the last report, and units a second since the start."""

    def __init__(self, name: str, steps: int, units_per_step: int, report: Report) -> None:
        self.name, self.steps, self.units_per_step, self.report = name, steps, units_per_step, report
        self.begun, self.total, self.count = time.monotonic(), 0.0, 0

    def step(self, step: int, loss: torch.Tensor) -> None:
        """Note the loss of step 1, 2, ...; every 200 steps and at the end, report."""
        self.total, self.count = self.total + loss.item(), self.count + 1
        if step % 200 == 0 or step == self.steps:
            rate = step * self.units_per_step / (time.monotonic() - self.begun)
            mean = self.total / self.count
            self.report({"step": step, f"{self.name}/loss": mean, f"{self.name}/units_per_second": rate})
            self.total, self.count = 0.0, 0
