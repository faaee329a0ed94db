"""Features and labels of examples, vocabulary and initial word embeddings, for the training of both networks."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segmenters.batching import SEPARATOR
from segmenters.learned.features import Features, extract_features
from segmenters.learned.networks import FIRST_WORD, word_check
from segmenters.learned.training.examples import Example
from segmenters.punctuation import Punctuation

Report = Callable[[dict[str, float]], None]
"""Takes `step` and metrics by name."""


def features_of(example: Example) -> Features:
    """The features of an example's words, with `PADDING` around them."""
    batch = SEPARATOR + example.text + SEPARATOR
    starts = np.array([len(SEPARATOR)], np.int64)
    return extract_features(batch, starts, Punctuation().sentence_starts(batch, starts))


NUM_WORDS = 2**15
"""Buckets of the vocabulary: a power of two."""
_MIN_WORD_COUNT = 3


def vocabulary(
    words: Iterable[NDArray[np.uint64]], known_V: NDArray[np.uint16] | None, num_words: int = NUM_WORDS
) -> NDArray[np.uint16]:
    """[V] `word_check` of each bucket: that of `known_V`, else that of the most frequent word in this bucket."""
    hashes, counts = np.unique(np.concatenate(list(words)), return_counts=True)
    frequent = (counts >= _MIN_WORD_COUNT) & (hashes != 0)
    hashes, counts = hashes[frequent], counts[frequent]
    check_V = np.zeros(num_words, np.uint16)
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    bucket = (hashes[order] & np.uint64(num_words - 1)).astype(np.int64)
    check_V[bucket] = word_check(hashes[order], num_words)
    return check_V if known_V is None else np.where(known_V > 0, known_V, check_V)


def labels(row: Features, example: Example) -> NDArray[np.bool_]:
    """[W] whether a sentence begins with each word."""
    real = np.flatnonzero(row.start_W >= 0)
    ends = np.array([end for end in example.ends if end < len(example.text)], np.int64) + len(SEPARATOR)
    first = np.searchsorted(row.start_W[real], ends)
    label_W = np.zeros(len(row.start_W), np.bool_)
    label_W[real[first[first < len(real)]]] = True
    return label_W


_FREQUENT_WORDS = 600
"""Number of context words, counted one and two words before and after each word."""


def neighbour_vectors(word_W: NDArray[np.int64], num_rows: int, width: int, seed: int) -> NDArray[np.float32]:
    """Vectors `[num_rows, width]` for the rows of a word table, by decreasing singular value; 0 for unseen words.

    Positive pointwise mutual information of each word with the frequent words around it, reduced by a randomised
    singular value decomposition. Words in similar contexts get similar vectors, which the few gold texts could not
    teach.
    """
    counts_V = np.bincount(word_W, minlength=num_rows)[FIRST_WORD:]
    num_frequent = min(_FREQUENT_WORDS, np.count_nonzero(counts_V))
    frequent = np.argsort(-counts_V, kind="stable")[:num_frequent] + FIRST_WORD
    column = np.full(num_rows, -1)
    column[frequent] = np.arange(len(frequent))
    parts = []
    for offset in (-2, -1, 1, 2):
        near_W = column[np.roll(word_W, -offset)]
        seen = (near_W >= 0) & (word_W >= FIRST_WORD)
        pairs = word_W[seen].astype(np.int64) * len(frequent) + near_W[seen]
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
    """Initialise word embeddings with the first columns of these vectors, scaled to the initial random values."""
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
    """The mean loss since the last report, and words per second since the start."""

    def __init__(self, name: str, steps: int, words_per_step: int, report: Report) -> None:
        self.name, self.steps, self.words_per_step, self.report = name, steps, words_per_step, report
        self.begun, self.total, self.count = time.monotonic(), 0.0, 0

    def step(self, step: int, loss: torch.Tensor) -> None:
        """Add the loss of step 1, 2, ...; report every 200 steps and at the end."""
        self.total, self.count = self.total + loss.item(), self.count + 1
        if step % 200 == 0 or step == self.steps:
            rate = step * self.words_per_step / (time.monotonic() - self.begun)
            mean = self.total / self.count
            self.report({"step": step, f"{self.name}/loss": mean, f"{self.name}/words_per_second": rate})
            self.total, self.count = 0.0, 0
