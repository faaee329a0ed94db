"""Training of the network for text without marks: convolutions over words.

Gold boundaries teach too little, so the network also tells, of gold and raw text alike, what was taken away before
each word: a comma, a colon, the end of a sentence, a capital. Only the boundary is used afterwards.

Torch is imported here and not where segmenters are used. Shapes: B stretches, T units of each, E width of the
embedding, H hidden.
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
from segmenters.learned.networks import FIRST_WORD, LEAK, UNKNOWN_WORD, UnmarkedNet, word_rows
from segmenters.learned.training.augmentation import MARK_KINDS, stripped_with_hints
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import Meter, Report, labels, optimizer_of, set_words, units_of


@dataclasses.dataclass(frozen=True)
class UnmarkedSettings:
    """Size of the model and length of its training."""

    num_suffixes: int = 2**12
    width: int = 64
    """Of the embedding of a unit."""
    hidden: int = 128
    kernel: int = 7
    """Units that a convolution sees at once."""
    num_convolutions: int = 3
    steps: int = 1600
    stretch: int = 256
    """Units that are trained on together."""
    batch_stretches: int = 32
    raw_share: float = 0.4
    """Of the stretches of a batch, where there is raw text."""
    raw_weight: float = 0.5
    """Of a boundary of raw text, which is only the rule's."""
    hint_weight: float = 0.5
    """Of the loss of what was taken away."""
    learning_rate: float = 2e-3
    dropout: float = 0.3
    word_dropout: float = 0.15
    """Share of words hidden at random in each step; half as many last letters are changed."""
    weight_decay: float = 0.05
    seed: int = 0


class _Convolution(nn.Module):
    def __init__(self, settings: UnmarkedSettings) -> None:
        super().__init__()
        hidden, kernel = settings.hidden, settings.kernel
        self.norm = nn.LayerNorm(hidden)
        self.convolution = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2)
        nn.init.normal_(self.convolution.weight, std=0.7 * (hidden * kernel) ** -0.5)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTH: Tensor) -> Tensor:
        change_BHT = self.convolution(self.norm(x_BTH).transpose(1, 2))
        return x_BTH + self.dropout(F.leaky_relu(change_BHT.transpose(1, 2), LEAK))


class UnmarkedModule(nn.Module):
    """`UnmarkedNet` in torch, with a head for what was taken away beside that for the boundary."""

    def __init__(self, settings: UnmarkedSettings, num_words: int) -> None:
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
        """Log-odds `[B, T]` that a sentence begins with a unit, and logits `[B, T, 5]`: 4 marks, the capital."""
        real_BT1 = (word_BT > 0).unsqueeze(-1)
        unit_BTE = self.word(word_BT) + self.suffix(suffix_BT) + self.shape(shape_BT) + self.gap(gap_BT)
        x_BTH = self.inner(self.dropout(unit_BTE)) * real_BT1
        for layer in self.layers:
            x_BTH = layer(x_BTH) * real_BT1
        x_BTH = self.norm(x_BTH)
        return self.outer(x_BTH).squeeze(-1), self.hints(x_BTH)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The values as a weights file names them; the head of the hints is left out."""
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
    def load(self, net: UnmarkedNet) -> None:
        """Take the values of a trained net of the same sizes; the head of the hints stays fresh."""
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
class _Table:
    """Units of all texts, stripped, one after the other."""

    word_U: Tensor
    suffix_U: Tensor
    shape_U: Tensor
    gap_U: Tensor
    boundary_U: Tensor
    is_place_U: Tensor
    """Whether a boundary may be there: at all units but the first of a text."""
    mark_U: Tensor
    """Index into `MARK_KINDS`."""
    capital_U: Tensor
    hinted_U: Tensor
    """Whether mark and capital are known."""


def _table(examples: Sequence[Example], check_V: NDArray[np.uint16], settings: UnmarkedSettings) -> _Table:
    columns: list[list[NDArray]] = [[] for _ in dataclasses.fields(_Table)]
    for example in examples:
        bare, hints = stripped_with_hints(example)
        if not bare.text:
            continue
        row = units_of(bare)
        real = row.start_U >= 0
        word_U = np.where(real, word_rows(row.word_U, check_V), 0)
        place = real.copy()
        place[np.argmax(real)] = False
        mark_U, capital_U, hinted_U = (
            np.zeros(len(real), kind) for kind in (np.int64, np.float32, np.float32)
        )
        real_U = np.flatnonzero(real)
        hint_H = np.array(hints, np.int64).reshape(-1, 3)
        at_H = real_U[
            np.searchsorted(row.start_U[real_U], hint_H[:, 0] + len(SEPARATOR)).clip(max=len(real_U) - 1)
        ]
        known_H = (row.start_U[at_H] == hint_H[:, 0] + len(SEPARATOR)) & place[at_H]
        mark_U[at_H[known_H]], capital_U[at_H[known_H]] = hint_H[known_H, 1], hint_H[known_H, 2]
        hinted_U[at_H[known_H]] = 1
        values: tuple[NDArray, ...] = (
            word_U,
            (row.suffix_U % np.uint64(settings.num_suffixes)).astype(np.int64),
            row.shape_U,
            row.gap_U,
            labels(row, bare).astype(np.float32),
            place.astype(np.float32),
            mark_U,
            capital_U,
            hinted_U,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _Table(*(torch.from_numpy(np.concatenate(column)) for column in columns))


def train_unmarked(
    gold: Sequence[Example],
    raw: Sequence[Example],
    settings: UnmarkedSettings,
    check_V: NDArray[np.uint16],
    start: UnmarkedNet | None = None,
    word_vectors: NDArray[np.float32] | None = None,
    report: Report = lambda metrics: None,
) -> UnmarkedModule:
    """A trained module, from scratch (words begin as `word_vectors`) or from `start`.

    The same for the same texts, settings, and number of threads. `report` gets step, loss and units a second.
    """
    torch.manual_seed(settings.seed)
    net = UnmarkedModule(settings, len(check_V))
    if start is not None:
        net.load(start)
    elif word_vectors is not None:
        set_words(net.word, word_vectors)
    raw_stretches = round(settings.batch_stretches * settings.raw_share) if raw else 0
    shares = [(_table(gold, check_V, settings), settings.batch_stretches - raw_stretches, 1.0)]
    if raw_stretches:
        shares.append((_table(raw, check_V, settings), raw_stretches, settings.raw_weight))
    stretch = min([settings.stretch, *(len(table.word_U) for table, _, _ in shares)])
    optimizer, schedule = optimizer_of(net, settings.learning_rate, settings.weight_decay, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    meter = Meter("unmarked", settings.steps, settings.batch_stretches * settings.stretch, report)
    for step in range(1, settings.steps + 1):
        picked = [_stretches(table, count, stretch, generator) for table, count, _ in shares]
        word, suffix, shape, gap, boundary, place, mark, capital, hinted = map(
            torch.cat, zip(*picked, strict=True)
        )
        weight_B = torch.cat([torch.full((count,), weight) for _, count, weight in shares])
        hide = (torch.rand(word.shape, generator=generator) < settings.word_dropout) & (word > 0)
        change = torch.rand(word.shape, generator=generator) < settings.word_dropout / 2
        other = torch.randint(0, settings.num_suffixes, word.shape, generator=generator)
        logit_BT, hint_BTK = net(
            torch.where(hide, UNKNOWN_WORD, word), torch.where(change, other, suffix), shape.int(), gap.int()
        )
        boundary_loss = _mean(
            F.binary_cross_entropy_with_logits(logit_BT, boundary, reduction="none"),
            place * weight_B[:, None],
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


def _stretches(table: _Table, count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """`count` runs of units from anywhere: each column `[count, size]`."""
    start_B = torch.randint(0, len(table.word_U) - size + 1, (count,), generator=generator)
    index_BT = start_B[:, None] + torch.arange(size)
    return [column[index_BT] for column in vars(table).values()]


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
