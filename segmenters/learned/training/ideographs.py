"""Training of the network for Chinese and Japanese without marks.

There is little labelled text, so most of it is raw: its sentences by `punctuation_v2`, in their order and in another,
with the marks taken away. The network also predicts which mark was before each word; only the boundary is used.

Shape suffixes: W words, B stretches, T words of each, G lengths of runs, K marks.
"""

import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segmenters.batching import SEPARATOR
from segmenters.learned.correction.ideographs import GRAMS, grams, rows_of
from segmenters.learned.networks import FIRST_WORD, LEAK, UNKNOWN_WORD
from segmenters.learned.training.augmentation import MARK_KINDS, stripped_with_hints
from segmenters.learned.training.examples import Example, read_texts, rebuilt, sentences
from segmenters.learned.training.features import Meter, Report, features_of, labels, optimizer_of, vocabulary
from segmenters.rules.segmenter import PunctuationV2

_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_LINK = re.compile(r"\[([^\]\n]*)\]\([^)\s]*\)")
_MARKUP = re.compile(r"</?\w[^>\n]*>|[*`_]+")
_FENCED = re.compile(r"^```.*?^```", re.S | re.M)
_CODE = re.compile(r"[|{}=<>\\/#$]")
_FINAL = "。！？"
_SHORTEST = 6
_TOGETHER = 20
"""Sentences of a text that is made of them."""


@dataclasses.dataclass(frozen=True)
class IdeographSettings:
    """Size of the network and length of its training."""

    steps: int = 600
    buckets: tuple[int, ...] = (2**12, 2**13, 2**13)
    width: int = 32
    """Embedding width."""
    window: int = 17
    """Words."""
    hidden: tuple[int, int] = (64, 32)
    stretch: int = 256
    """Consecutive words per row of a batch."""
    batch_stretches: int = 32
    labelled_share: float = 0.25
    """Share of labelled text in the rows of a batch."""
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    dropout: float = 0.4
    word_dropout: float = 0.35
    """Share of the runs of each length that are hidden, and half as many places where all are."""
    hint_weight: float = 0.3
    """Weight of the loss on the marks."""
    seed: int = 0


def in_ideographs(texts: Sequence[str]) -> bool:
    """Whether most characters are ideographs or kana."""
    sample = "".join(text[:1000] for text in texts[:100])
    return len(_IDEOGRAPH.findall(sample)) > len(sample) / 2


def sentences_of(path: Path, most: int) -> list[str]:
    """Different sentences of prose in ideographs in a raw file, without mark-up."""
    found: dict[str, None] = {}
    for text in read_texts(path, most):
        plain = _MARKUP.sub("", _LINK.sub(r"\1", _FENCED.sub("\n", text)))
        lines = [line for line in map(str.strip, plain.split("\n")) if in_ideographs([line])]
        for line, ends in zip(lines, PunctuationV2().split(lines), strict=True):
            for low, high in zip([0, *ends.tolist()], ends.tolist(), strict=False):
                sentence = line[low:high].strip()
                final = sentence[-1:] in _FINAL and len(sentence) >= _SHORTEST
                if final and in_ideographs([sentence]) and not _CODE.search(sentence):
                    found[sentence] = None
    return list(found)


def texts_of(listed: list[str], rng: random.Random | None = None) -> list[Example]:
    """Texts of 20 sentences each: neighbours, or with `rng` sentences in random order."""
    if rng is not None:
        listed = rng.sample(listed, len(listed))
    parts = (listed[low : low + _TOGETHER] for low in range(0, len(listed), _TOGETHER))
    return [rebuilt(Example("", ()), [(sentence, True) for sentence in part]) for part in parts]


def reordered(texts: Sequence[Example], rng: random.Random, times: int) -> Iterator[Example]:
    """The texts, and as often as `times` texts of their sentences in random order."""
    yield from texts
    listed = [sentence.strip() for text in texts for sentence in sentences(text) if sentence.strip()]
    for _ in range(times):
        yield from texts_of(listed, rng)


@dataclasses.dataclass(frozen=True)
class _Words:
    """The words of stripped texts, with padding between."""

    word_W: NDArray[np.uint64]
    boundary_W: NDArray[np.float32]
    candidate_W: NDArray[np.float32]
    """1 for all words but the first of a text."""
    mark_W: NDArray[np.int64]
    """Index into `MARK_KINDS` of the mark before the word."""


def _words(texts: Sequence[Example]) -> _Words:
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    for text in texts:
        bare, hints = stripped_with_hints(text)
        if not bare.text:
            continue
        row = features_of(bare)
        real = row.start_W >= 0
        candidate = real.copy()
        candidate[np.argmax(real)] = False
        mark_W = np.zeros(len(real), np.int64)
        real_W = np.flatnonzero(real)
        hint_H = np.array(hints, np.int64).reshape(-1, 3)
        start_H = hint_H[:, 0] + len(SEPARATOR)
        at_H = real_W[np.searchsorted(row.start_W[real_W], start_H).clip(max=len(real_W) - 1)]
        exact_H = row.start_W[at_H] == start_H
        mark_W[at_H[exact_H]] = hint_H[exact_H, 1]
        values: tuple[NDArray[Any], ...] = (
            row.word_W,
            labels(row, bare).astype(np.float32),
            candidate.astype(np.float32),
            mark_W,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _Words(*map(np.concatenate, columns))


class IdeographModule(nn.Module):
    """`IdeographNet` in torch, with a second head for the marks."""

    def __init__(self, settings: IdeographSettings, checks: tuple[NDArray[np.uint16], ...]) -> None:
        super().__init__()
        first, second = settings.hidden
        self.settings, self.checks = settings, checks
        self.tables = nn.ModuleList(nn.Embedding(len(one) + FIRST_WORD, settings.width) for one in checks)
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.2)
        self.window = nn.Conv1d(settings.width, first, settings.window, padding=settings.window // 2)
        self.inner, self.outer = nn.Linear(first, second), nn.Linear(second, 1)
        self.hints = nn.Linear(second, len(MARK_KINDS))
        self.embedding_dropout, self.dropout = nn.Dropout(0.2), nn.Dropout(settings.dropout)

    def forward(self, rows_BTG: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds `[B, T]` that a sentence begins with each word, logits `[B, T, K]` of the mark before it."""
        embedded_BTE = torch.stack([table(rows_BTG[..., g]) for g, table in enumerate(self.tables)]).sum(0)
        embedded_BTE = self.embedding_dropout(embedded_BTE) * (rows_BTG[..., :1] > 0)
        hidden_BHT = self.dropout(F.leaky_relu(self.window(embedded_BTE.transpose(1, 2)), LEAK))
        x_BTH = F.leaky_relu(self.inner(hidden_BHT.transpose(1, 2)), LEAK)
        return self.outer(x_BTH).squeeze(-1), self.hints(x_BTH)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The values under their names in a weights file."""
        named: dict[str, Tensor] = {}
        for number, table in enumerate(self.tables):
            assert isinstance(table, nn.Embedding)
            named[f"ideographs.table{number}"] = table.weight
        named["ideographs.layer0.weight"] = self.window.weight.transpose(1, 2).flatten(1)
        for number, linear in enumerate((self.inner, self.outer), 1):
            named[f"ideographs.layer{number}.weight"] = linear.weight
            named[f"ideographs.layer{number}.bias"] = linear.bias
        assert self.window.bias is not None
        named["ideographs.layer0.bias"] = self.window.bias
        found: dict[str, NDArray[Any]] = {name: one.detach().numpy().copy() for name, one in named.items()}
        return {**found, **{f"ideographs.check{g}": check for g, check in enumerate(self.checks)}}


def vocabularies(texts: Sequence[_Words], settings: IdeographSettings) -> tuple[NDArray[np.uint16], ...]:
    """The buckets of each length of a run."""
    listed = [grams(one.word_W) for one in texts]
    return tuple(vocabulary([found[g] for found in listed], None, settings.buckets[g]) for g in range(GRAMS))


def train_ideographs(
    groups: Sequence[tuple[Sequence[Example], float]],
    settings: IdeographSettings,
    report: Report = lambda metrics: None,
) -> IdeographModule:
    """A trained module from texts with marks, each group with its share of a batch.

    Equal for equal texts, settings and number of threads. `report` gets step, loss and words per second.
    """
    torch.manual_seed(settings.seed)
    tables = [_words(texts) for texts, _ in groups]
    net = IdeographModule(settings, vocabularies(tables, settings))
    total = sum(share for _, share in groups)
    counts = [max(round(settings.batch_stretches * share / total), 1) for _, share in groups]
    columns = [
        tuple(map(torch.from_numpy, (rows_of(t.word_W, net.checks), t.boundary_W, t.candidate_W, t.mark_W)))
        for t in tables
    ]
    stretch = min([settings.stretch, *(len(table.word_W) for table in tables)])
    optimizer, schedule = optimizer_of(net, settings.learning_rate, settings.weight_decay, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    meter = Meter("ideographs", settings.steps, sum(counts) * stretch, report)
    for step in range(1, settings.steps + 1):
        picked = []
        for column, count in zip(columns, counts, strict=True):
            start_B = torch.randint(0, len(column[0]) - stretch + 1, (count,), generator=generator)
            picked.append([values[start_B[:, None] + torch.arange(stretch)] for values in column])
        rows, boundary, candidate, mark = map(torch.cat, zip(*picked, strict=True))
        hidden = torch.rand(rows.shape, generator=generator) < settings.word_dropout
        hidden |= torch.rand((*rows.shape[:2], 1), generator=generator) < settings.word_dropout / 2
        logit_BT, hint_BTK = net(torch.where(hidden & (rows > 0), UNKNOWN_WORD, rows))
        weight = candidate / candidate.sum().clamp(min=1)
        loss = (F.binary_cross_entropy_with_logits(logit_BT, boundary, reduction="none") * weight).sum()
        hints = F.cross_entropy(hint_BTK.transpose(1, 2), mark, reduction="none")
        optimizer.zero_grad()
        (loss + settings.hint_weight * (hints * weight).sum()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        meter.step(step, loss)
    return net
