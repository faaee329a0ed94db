"""Training of the network for unpunctuated text: convolutions over words.

There is little gold text, so the network also predicts, in gold and raw text, what stripping removed before each word:
a comma, a colon, a terminator, a capital. Only the boundary is used afterwards.

Shape suffixes: B stretches, T words of each, E embedding width, H hidden width, K kernel or logits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segmenters.batching import SEPARATOR
from segmenters.learned.features import NUM_GAPS, NUM_SHAPES
from segmenters.learned.networks import FIRST_WORD, LEAK, UNKNOWN_WORD, UnpunctuatedNet, word_rows
from segmenters.learned.training.augmentation import MARK_KINDS, stripped_with_hints
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import Meter, Report, features_of, labels, optimizer_of, set_words


@dataclasses.dataclass(frozen=True)
class UnpunctuatedSettings:
    """Size of the model and length of its training."""

    num_suffixes: int = 2**12
    width: int = 64
    """Embedding width."""
    hidden: int = 128
    kernel: int = 7
    """Words per window of a convolution."""
    num_convolutions: int = 3
    steps: int = 1600
    stretch: int = 256
    """Consecutive words per row of a batch."""
    batch_stretches: int = 32
    raw_share: float = 0.4
    """Share of raw text in the rows of a batch, where there is raw text."""
    raw_weight: float = 0.5
    """Loss weight of the boundaries of raw text, which are `punctuation_v1`'s."""
    hint_weight: float = 0.5
    """Weight of the loss on removed punctuation and case."""
    learning_rate: float = 2e-3
    dropout: float = 0.3
    word_dropout: float = 0.15
    """Share of words replaced by the unknown word in each step; half as many suffixes are replaced at random."""
    weight_decay: float = 0.05
    seed: int = 0


class _Convolution(nn.Module):
    def __init__(self, settings: UnpunctuatedSettings) -> None:
        super().__init__()
        hidden, kernel = settings.hidden, settings.kernel
        self.norm = nn.LayerNorm(hidden)
        self.convolution = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2)
        nn.init.normal_(self.convolution.weight, std=0.7 * (hidden * kernel) ** -0.5)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTH: Tensor) -> Tensor:
        change_BHT = self.convolution(self.norm(x_BTH).transpose(1, 2))
        return x_BTH + self.dropout(F.leaky_relu(change_BHT.transpose(1, 2), LEAK))


class UnpunctuatedModule(nn.Module):
    """`UnpunctuatedNet` in torch, with a second head for removed punctuation and case."""

    def __init__(self, settings: UnpunctuatedSettings, num_words: int) -> None:
        super().__init__()
        rows = (num_words + FIRST_WORD, settings.num_suffixes, NUM_SHAPES, NUM_GAPS)
        self.word, self.suffix, self.shape, self.gap = (nn.Embedding(n, settings.width) for n in rows)
        for table in (self.word, self.suffix, self.shape, self.gap):
            nn.init.normal_(table.weight, std=0.3)
        self.dropout = nn.Dropout(settings.dropout)
        self.inner = nn.Linear(settings.width, settings.hidden)
        self.layers = nn.ModuleList(_Convolution(settings) for _ in range(settings.num_convolutions))
        self.norm = nn.LayerNorm(settings.hidden)
        self.outer = nn.Linear(settings.hidden, 1)
        self.hints = nn.Linear(settings.hidden, len(MARK_KINDS) + 1)

    def forward(
        self, word_BT: Tensor, suffix_BT: Tensor, shape_BT: Tensor, gap_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-odds `[B, T]` that a sentence begins with each word, and logits `[B, T, 5]`: 4 kinds of punctuation mark,
        the capital."""
        real_BT1 = (word_BT > 0).unsqueeze(-1)
        embedded_BTE = self.word(word_BT) + self.suffix(suffix_BT) + self.shape(shape_BT) + self.gap(gap_BT)
        x_BTH = self.inner(self.dropout(embedded_BTE)) * real_BT1
        for layer in self.layers:
            x_BTH = layer(x_BTH) * real_BT1
        x_BTH = self.norm(x_BTH)
        return self.outer(x_BTH).squeeze(-1), self.hints(x_BTH)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The values under their names in a weights file, in the shapes of the parameters, without the head of the
        hints."""
        named = {name: getattr(self, name).weight for name in ("word", "suffix", "shape", "gap")}
        for name, module in (("inner", self.inner), ("norm", self.norm), ("outer", self.outer)):
            named |= {f"{name}.{part}": value for part, value in module.named_parameters()}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, _Convolution)
            named |= {f"norm{index}.{part}": value for part, value in layer.norm.named_parameters()}
            kernel_HHK = layer.convolution.weight
            named[f"convolution{index}.weight"] = kernel_HHK.transpose(1, 2).flatten(1)
            bias = layer.convolution.bias
            assert bias is not None
            named[f"convolution{index}.bias"] = bias
        return {f"unmarked.{name}": value.detach().numpy().copy() for name, value in named.items()}

    @torch.no_grad()
    def load(self, net: UnpunctuatedNet) -> None:
        """Copy the values of a trained net of the same sizes; the head of the hints keeps its own."""
        values = vars(net.embedding).values()
        for table, value in zip((self.word, self.suffix, self.shape, self.gap), values, strict=True):
            table.weight.copy_(torch.from_numpy(value))
        for linear, (matrix, bias) in ((self.inner, net.inner), (self.outer, net.outer)):
            linear.weight.copy_(torch.from_numpy(matrix.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias.copy()))
        norms = [(self.norm, net.norm)]
        for layer, one in zip(self.layers, net.convolutions, strict=True):
            assert isinstance(layer, _Convolution) and layer.convolution.bias is not None
            hidden, _, kernel = layer.convolution.weight.shape
            matrix_HKH = torch.from_numpy(one.matrix.T.copy()).view(hidden, kernel, hidden)
            layer.convolution.weight.copy_(matrix_HKH.transpose(1, 2))
            layer.convolution.bias.copy_(torch.from_numpy(one.bias.copy()))
            norms.append((layer.norm, one.norm))
        for norm, (scale, shift) in norms:
            norm.weight.copy_(torch.from_numpy(scale.copy()))
            norm.bias.copy_(torch.from_numpy(shift.copy()))


@dataclasses.dataclass(frozen=True)
class _UnpunctuatedWords:
    """The words of all texts, stripped and concatenated."""

    word_W: Tensor
    suffix_W: Tensor
    shape_W: Tensor
    gap_W: Tensor
    boundary_W: Tensor
    is_candidate_W: Tensor
    """Whether a sentence may begin with the word: all but the first of a text."""
    mark_W: Tensor
    """Index into `MARK_KINDS`."""
    capital_W: Tensor
    hinted_W: Tensor
    """Whether punctuation mark and capital are known."""


def _table(
    examples: Sequence[Example], check_V: NDArray[np.uint16], settings: UnpunctuatedSettings
) -> _UnpunctuatedWords:
    columns: list[list[NDArray]] = [[] for _ in dataclasses.fields(_UnpunctuatedWords)]
    for example in examples:
        bare, hints = stripped_with_hints(example)
        if not bare.text:
            continue
        row = features_of(bare)
        real = row.start_W >= 0
        word_W = np.where(real, word_rows(row.word_W, check_V), 0)
        candidate = real.copy()
        candidate[np.argmax(real)] = False
        mark_W, capital_W, hinted_W = (
            np.zeros(len(real), kind) for kind in (np.int64, np.float32, np.float32)
        )
        real_W = np.flatnonzero(real)
        hint_H = np.array(hints, np.int64).reshape(-1, 3)
        at_H = real_W[
            np.searchsorted(row.start_W[real_W], hint_H[:, 0] + len(SEPARATOR)).clip(max=len(real_W) - 1)
        ]
        known_H = (row.start_W[at_H] == hint_H[:, 0] + len(SEPARATOR)) & candidate[at_H]
        mark_W[at_H[known_H]], capital_W[at_H[known_H]] = hint_H[known_H, 1], hint_H[known_H, 2]
        hinted_W[at_H[known_H]] = 1
        values: tuple[NDArray, ...] = (
            word_W,
            (row.suffix_W % np.uint64(settings.num_suffixes)).astype(np.int64),
            row.shape_W,
            row.gap_W,
            labels(row, bare).astype(np.float32),
            candidate.astype(np.float32),
            mark_W,
            capital_W,
            hinted_W,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _UnpunctuatedWords(*(torch.from_numpy(np.concatenate(column)) for column in columns))


def train_unpunctuated(
    gold: Sequence[Example],
    raw: Sequence[Example],
    settings: UnpunctuatedSettings,
    check_V: NDArray[np.uint16],
    start: UnpunctuatedNet | None = None,
    word_vectors: NDArray[np.float32] | None = None,
    report: Report = lambda metrics: None,
) -> UnpunctuatedModule:
    """A trained module, from scratch (words are initialised with `word_vectors`) or from `start`.

    Equal for equal texts, settings and number of threads. `report` gets step, loss and words per second.
    """
    torch.manual_seed(settings.seed)
    net = UnpunctuatedModule(settings, len(check_V))
    if start is not None:
        net.load(start)
    elif word_vectors is not None:
        set_words(net.word, word_vectors)
    raw_stretches = round(settings.batch_stretches * settings.raw_share) if raw else 0
    shares = [(_table(gold, check_V, settings), settings.batch_stretches - raw_stretches, 1.0)]
    if raw_stretches:
        shares.append((_table(raw, check_V, settings), raw_stretches, settings.raw_weight))
    stretch = min([settings.stretch, *(len(table.word_W) for table, _, _ in shares)])
    optimizer, schedule = optimizer_of(net, settings.learning_rate, settings.weight_decay, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    meter = Meter("unpunctuated", settings.steps, settings.batch_stretches * settings.stretch, report)
    for step in range(1, settings.steps + 1):
        picked = [_stretches(table, count, stretch, generator) for table, count, _ in shares]
        word, suffix, shape, gap, boundary, candidate, mark, capital, hinted = map(
            torch.cat, zip(*picked, strict=True)
        )
        weight_B = torch.cat([torch.full((count,), weight) for _, count, weight in shares])
        dropped = (torch.rand(word.shape, generator=generator) < settings.word_dropout) & (word > 0)
        replaced = torch.rand(word.shape, generator=generator) < settings.word_dropout / 2
        other = torch.randint(0, settings.num_suffixes, word.shape, generator=generator)
        logit_BT, hint_BTK = net(
            torch.where(dropped, UNKNOWN_WORD, word),
            torch.where(replaced, other, suffix),
            shape.int(),
            gap.int(),
        )
        boundary_loss = _mean(
            F.binary_cross_entropy_with_logits(logit_BT, boundary, reduction="none"),
            candidate * weight_B[:, None],
        )
        mark_BT = F.cross_entropy(hint_BTK[..., :-1].transpose(1, 2), mark, reduction="none")
        capital_BT = F.binary_cross_entropy_with_logits(hint_BTK[..., -1], capital, reduction="none")
        loss = boundary_loss + settings.hint_weight * _mean(mark_BT + capital_BT, hinted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        meter.step(step, boundary_loss)
    return net


def _stretches(table: _UnpunctuatedWords, count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """`count` random stretches of `size` consecutive words: each column `[count, size]`."""
    start_B = torch.randint(0, len(table.word_W) - size + 1, (count,), generator=generator)
    index_BT = start_B[:, None] + torch.arange(size)
    return [column[index_BT] for column in vars(table).values()]


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
