"""Training of the learned segmenter: examples in, a file of weights and scores out.

Torch is imported here and not where segmenters are used.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from segmenters.batching import SEPARATOR
from segmenters.characters import Kind
from segmenters.learned import (
    FIRST_WORD,
    FORMAT_VERSION,
    LEAK,
    UNKNOWN_WORD,
    Weights,
    word_check,
    word_rows,
)
from segmenters.punctuation import Punctuation
from segmenters.training_text import Example
from segmenters.units import NUM_DENSITIES, NUM_GAPS, NUM_SHAPES, Units, units


@dataclasses.dataclass(frozen=True)
class Settings:
    """Size of the model and length of its training."""

    num_words: int = 2**15
    """Buckets of the vocabulary: a power of two."""
    min_word_count: int = 3
    num_suffixes: int = 2**12
    width: int = 32
    """Of the embedding of a unit."""
    before: int = 9
    after: int = 7
    hidden: tuple[int, ...] = (96, 32)
    steps: int = 4000
    stretch: int = 128
    """Units of a text that are trained on together."""
    batch_stretches: int = 64
    learning_rate: float = 3e-3
    dropout: float = 0.2
    hide_words: float = 0.05
    """Share of words hidden at random in each step."""
    weight_decay: float = 1e-4
    frequent_words: int = 600
    """Words that others are first compared by: how often each stands one and two places before and behind."""
    seed: int = 0


class Net(nn.Module):
    """The model of `segmenters.learned`, in torch. Shapes: B places, W units of the window, E width."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.word = nn.Embedding(settings.num_words + FIRST_WORD, settings.width)
        self.suffix = nn.Embedding(settings.num_suffixes, settings.width)
        self.shape = nn.Embedding(NUM_SHAPES, settings.width)
        self.gap = nn.Embedding(NUM_GAPS, settings.width)
        for table in (self.word, self.suffix, self.shape, self.gap):
            nn.init.normal_(table.weight, std=0.1)
        window = (settings.before + settings.after) * settings.width + NUM_DENSITIES
        sizes = [window, *settings.hidden, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self,
        word_BT: torch.Tensor,
        suffix_BT: torch.Tensor,
        shape_BT: torch.Tensor,
        gap_BT: torch.Tensor,
        density_BPF: torch.Tensor,
    ) -> torch.Tensor:
        """Log-odds `[B, P]` that a sentence begins with a unit, for stretches of P units and their context."""
        unit_BTE = self.word(word_BT) + self.suffix(suffix_BT) + self.shape(shape_BT) + self.gap(gap_BT)
        unit_BTE = self.dropout(unit_BTE * (word_BT > 0).unsqueeze(-1))
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        size, width = self.settings.before + self.settings.after, self.settings.width
        # The first layer over all windows of a stretch is a convolution with the same weights.
        kernel = first.weight[:, : size * width].view(-1, size, width).transpose(1, 2)
        hidden = nn.functional.conv1d(unit_BTE.transpose(1, 2), kernel).transpose(1, 2)
        hidden = hidden + density_BPF @ first.weight[:, size * width :].T + first.bias
        for layer in self.layers[1:]:
            hidden = layer(nn.functional.leaky_relu(hidden, LEAK))
        return hidden.squeeze(-1)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Take the values of trained weights of the same sizes."""
        values = (weights.word_VE, weights.suffix_SE, weights.shape_E, weights.gap_E)
        for table, value in zip((self.word, self.suffix, self.shape, self.gap), values, strict=True):
            table.weight.copy_(torch.from_numpy(value))
        for layer, (matrix, bias) in zip(self.layers, weights.layers, strict=True):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(torch.from_numpy(matrix.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias.copy()))


@dataclasses.dataclass(frozen=True)
class _Table:
    """Units of all examples, one after the other."""

    word_U: torch.Tensor
    suffix_U: torch.Tensor
    shape_U: torch.Tensor
    gap_U: torch.Tensor
    density_UF: torch.Tensor
    label_U: torch.Tensor
    weight_U: torch.Tensor
    """0 for units that no sentence begins with, by what is cheap to see."""


def _units_of(example: Example) -> Units:
    batch = SEPARATOR + example.text + SEPARATOR
    starts = np.array([len(SEPARATOR)], np.int64)
    return units(batch, starts, Punctuation().places(batch, starts))


def _vocabulary(
    words: Iterable[NDArray[np.uint64]], settings: Settings, known_V: NDArray[np.uint16] | None
) -> NDArray[np.uint16]:
    """The check of each bucket: that of `known_V`, else of the most frequent word that falls into it."""
    hashes, counts = np.unique(np.concatenate(list(words)), return_counts=True)
    frequent = (counts >= settings.min_word_count) & (hashes != 0)
    hashes, counts = hashes[frequent], counts[frequent]
    check_V = np.zeros(settings.num_words, np.uint16)
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    bucket = (hashes[order] & np.uint64(settings.num_words - 1)).astype(np.int64)
    check_V[bucket] = word_check(hashes[order], settings.num_words)
    return check_V if known_V is None else np.where(known_V > 0, known_V, check_V)


def _labels(row: Units, example: Example) -> NDArray[np.bool_]:
    """For each unit whether a sentence begins with it."""
    real = np.flatnonzero(row.start_U >= 0)
    ends = np.array([end for end in example.ends if end < len(example.text)], np.int64) + len(SEPARATOR)
    first = np.searchsorted(row.start_U[real], ends)
    label_U = np.zeros(len(row.start_U), np.bool_)
    label_U[real[first[first < len(real)]]] = True
    return label_U


def _table(
    examples: Sequence[Example], rows: Sequence[Units], check_V: NDArray[np.uint16], settings: Settings
) -> _Table:
    rng = np.random.default_rng(settings.seed)
    columns: list[list[NDArray]] = [[] for _ in dataclasses.fields(_Table)]
    for example, row in zip(examples, rows, strict=True):
        word_U = word_rows(row.word_U, check_V)
        suffix_U = (row.suffix_U % np.uint64(settings.num_suffixes)).astype(np.int32)
        hide_U = (rng.random(len(word_U)) < example.hide_words) & (row.kind_U < Kind.IDEOGRAPH)
        word_U[hide_U] = UNKNOWN_WORD
        suffix_U[hide_U] = rng.integers(0, settings.num_suffixes, int(hide_U.sum()))
        word_U[row.start_U < 0] = 0
        density_UF = row.densities(word_U > UNKNOWN_WORD)
        weight_U = np.zeros(len(word_U), np.float32)
        weight_U[row.candidates(density_UF)] = example.weight
        values: tuple[NDArray, ...] = (
            word_U.astype(np.int32),
            suffix_U,
            row.shape_U,
            row.gap_U,
            density_UF,
            _labels(row, example).astype(np.float32),
            weight_U,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _Table(*(torch.from_numpy(np.concatenate(column)) for column in columns))


def train(
    examples: Sequence[Example],
    settings: Settings,
    start: Weights | None = None,
    corpus: Sequence[Example] = (),
    report: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> tuple[Net, NDArray[np.uint16]]:
    """A trained net and its vocabulary's checks, from scratch or from the weights `start`.

    `corpus` is more text for the vocabulary and the first embeddings, whose boundaries are not trained on.
    The same for the same examples, settings, and number of threads. `report` gets step, loss and units a second.
    """
    torch.manual_seed(settings.seed)
    rows = [_units_of(example) for example in examples]
    corpus_U = np.concatenate([np.zeros(1, np.uint64), *(_units_of(text).word_U for text in corpus)])
    check_V = _vocabulary(
        [*(row.word_U for row in rows), corpus_U], settings, start.check_V if start else None
    )
    table = _table(examples, rows, check_V, settings)
    del rows
    net = Net(settings)
    if start is not None:
        net.load(start)
    else:  # begin with how rare boundaries are, or the net spends its hidden units on saying so
        rate = float((table.label_U * table.weight_U).sum() / table.weight_U.sum().clamp(min=1))
        nn.init.constant_(
            cast("nn.Linear", net.layers[-1]).bias, math.log(max(rate, 1e-4) / max(1 - rate, 1e-4))
        )
    if start is None and settings.frequent_words:
        corpus_rows = np.where(corpus_U > 0, word_rows(corpus_U, check_V), 0)
        _set_by_neighbours(net, np.concatenate([corpus_rows, table.word_U.numpy()]))
    matrices = [p for n, p in net.named_parameters() if p.dim() > 1]
    biases = [p for n, p in net.named_parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    # Some warm-up also in the shortest runs; one of exactly a step would divide by zero.
    warmup = min(0.75, max(0.05, 2 / settings.steps))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=warmup
    )
    context = torch.arange(-settings.before, settings.stretch + settings.after - 1)
    last = len(table.word_U) - settings.stretch - settings.after
    starts = torch.arange(settings.before, last, settings.stretch)
    generator = torch.Generator().manual_seed(settings.seed)
    begun, mean_loss = time.monotonic(), 0.0
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, settings.steps + 1):
        while len(order) < settings.batch_stretches:
            order = torch.cat([order, starts[torch.randperm(len(starts), generator=generator)]])
        start_B, order = order[: settings.batch_stretches], order[settings.batch_stretches :]
        # Shifted at random, so that a stretch is not cut in the same places each time.
        shift = torch.randint(0, settings.stretch, (1,), generator=generator)
        index_BT = (start_B + shift).clamp(max=last)[:, None] + context
        index_BP = index_BT[:, settings.before : settings.before + settings.stretch]
        word_BT = table.word_U[index_BT]
        hide = (torch.rand(word_BT.shape, generator=generator) < settings.hide_words) & (word_BT > 0)
        logit_BP = net(
            torch.where(hide, UNKNOWN_WORD, word_BT),
            table.suffix_U[index_BT],
            table.shape_U[index_BT].int(),
            table.gap_U[index_BT].int(),
            table.density_UF[index_BP],
        )
        weight_BP = table.weight_U[index_BP]
        loss = nn.functional.binary_cross_entropy_with_logits(
            logit_BP, table.label_U[index_BP], weight=weight_BP, reduction="sum"
        ) / weight_BP.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean_loss += loss.item()
        if step % 200 == 0 or step == settings.steps:
            rate = step * settings.batch_stretches * settings.stretch / (time.monotonic() - begun)
            report(
                {"step": step, "train/loss": mean_loss / (step % 200 or 200), "train/units_per_second": rate}
            )
            mean_loss = 0.0
    return net, check_V


def _set_by_neighbours(net: Net, word_U: NDArray[np.int64]) -> None:
    """Word embeddings to begin with: the principal parts of which frequent words stand beside each word.

    Words that may stand in the same places come near each other, which few gold boundaries could not teach.
    (Positive pointwise mutual information, then a randomised singular value decomposition.)
    """
    rows, width = net.settings.num_words + FIRST_WORD, net.settings.width
    counts_V = np.bincount(word_U, minlength=rows)[FIRST_WORD:]
    frequent = np.argsort(-counts_V, kind="stable")[
        : min(net.settings.frequent_words, np.count_nonzero(counts_V))
    ]
    frequent += FIRST_WORD
    column = np.full(rows, -1)
    column[frequent] = np.arange(len(frequent))
    parts = []
    for offset in (-2, -1, 1, 2):
        near_U = column[np.roll(word_U, -offset)]
        seen = (near_U >= 0) & (word_U >= FIRST_WORD)
        pairs = word_U[seen].astype(np.int64) * len(frequent) + near_U[seen]
        parts.append(np.bincount(pairs, minlength=rows * len(frequent)).reshape(rows, -1).astype(np.float32))
    counts = np.concatenate(parts, axis=1)
    expected = counts.sum(1, keepdims=True) @ counts.sum(0, keepdims=True) / max(counts.sum(), 1)
    information = np.log(np.maximum(counts, 1e-9) / np.maximum(expected, 0.05)).clip(min=0)
    rng = np.random.default_rng(net.settings.seed)
    basis = rng.standard_normal((information.shape[1], width + 8)).astype(np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(information.T @ (information @ basis))
    left, values, _ = np.linalg.svd(information @ basis, full_matrices=False)
    embedding = left[:, :width] * np.sqrt(values[:width])
    seen_rows = counts.sum(1) > 0
    embedding *= 0.1 / max(float(embedding[seen_rows].std()), 1e-9)
    with torch.no_grad():
        net.word.weight[torch.from_numpy(seen_rows)] = torch.from_numpy(embedding[seen_rows])


def save_weights(
    net: Net, check_V: NDArray[np.uint16], path: Path, barren_shift: float, metadata: dict[str, str]
) -> None:
    """Write the weights: tables and matrices as int8 with one scale a column or row, biases in float32."""
    tensors: dict[str, NDArray] = {"word.check": check_V}
    for name in ("word", "suffix", "shape", "gap"):
        values = getattr(net, name).weight.detach().numpy().copy()
        if name == "word":
            values[0] = 0
        _add_quantized(tensors, name, values, axis=0)
    for index, layer in enumerate(net.layers):
        assert isinstance(layer, nn.Linear)
        _add_quantized(tensors, f"layer{index}.weight", layer.weight.detach().numpy(), axis=1)
        tensors[f"layer{index}.bias"] = layer.bias.detach().numpy()
    header = {
        "format_version": str(FORMAT_VERSION),
        "before": str(net.settings.before),
        "after": str(net.settings.after),
        "barren_shift": str(barren_shift),
        **metadata,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_canonical(save(tensors, metadata=header)))


def _canonical(data: bytes) -> bytes:
    """A safetensors file with the keys of its header in order: the library writes them in any."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _add_quantized(tensors: dict[str, NDArray], name: str, values: NDArray, axis: int) -> None:
    scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-8).astype(np.float32) / 127
    tensors[name] = np.round(values / scale).astype(np.int8)
    tensors[f"{name}.scale"] = scale
