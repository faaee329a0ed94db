"""Training of the network for punctuated text: a perceptron over a window of words.

Shape suffixes: B stretches, P words of a stretch, T with their context, E embedding width, F densities.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segmenters.characters import Kind
from segmenters.learned.features import NUM_DENSITIES, NUM_GAPS, NUM_SHAPES
from segmenters.learned.networks import FIRST_WORD, LEAK, UNKNOWN_WORD, PunctuatedNet, word_rows
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import Meter, Report, features_of, labels, optimizer_of, set_words


@dataclasses.dataclass(frozen=True)
class PunctuatedSettings:
    """Size of the model and length of its training."""

    num_suffixes: int = 2**12
    width: int = 32
    """Embedding width."""
    before: int = 9
    after: int = 7
    hidden: tuple[int, ...] = (96, 32)
    steps: int = 1200
    stretch: int = 128
    """Consecutive words per row of a batch."""
    batch_stretches: int = 64
    learning_rate: float = 3e-3
    dropout: float = 0.2
    word_dropout: float = 0.05
    """Share of words replaced by the unknown word in each step."""
    weight_decay: float = 1e-4
    seed: int = 0


class PunctuatedModule(nn.Module):
    """`PunctuatedNet` in torch."""

    def __init__(self, settings: PunctuatedSettings, num_words: int) -> None:
        super().__init__()
        self.settings = settings
        self.word = nn.Embedding(num_words + FIRST_WORD, settings.width)
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
        """Log-odds `[B, P]` that a sentence begins with each word."""
        embedded_BTE = self.word(word_BT) + self.suffix(suffix_BT) + self.shape(shape_BT) + self.gap(gap_BT)
        embedded_BTE = self.dropout(embedded_BTE * (word_BT > 0).unsqueeze(-1))
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        size, width = self.settings.before + self.settings.after, self.settings.width
        # The first layer over all windows of a stretch is a convolution with the same weights.
        kernel = first.weight[:, : size * width].view(-1, size, width).transpose(1, 2)
        hidden = nn.functional.conv1d(embedded_BTE.transpose(1, 2), kernel).transpose(1, 2)
        hidden = hidden + density_BPF @ first.weight[:, size * width :].T + first.bias
        for layer in self.layers[1:]:
            hidden = layer(nn.functional.leaky_relu(hidden, LEAK))
        return hidden.squeeze(-1)

    @torch.no_grad()
    def load(self, net: PunctuatedNet) -> None:
        """Copy the values of a trained net of the same sizes."""
        values = vars(net.embedding).values()
        for table, value in zip((self.word, self.suffix, self.shape, self.gap), values, strict=True):
            table.weight.copy_(torch.from_numpy(value))
        for layer, (matrix, bias) in zip(self.layers, net.layers, strict=True):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(torch.from_numpy(matrix.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias.copy()))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The values under their names in a weights file, in the shapes of the parameters."""
        tables = {name: getattr(self, name).weight for name in ("word", "suffix", "shape", "gap")}
        named = {f"marked.{name}": value for name, value in tables.items()}
        for index, layer in enumerate(self.layers):
            named |= {f"marked.layer{index}.{name}": value for name, value in layer.named_parameters()}
        return {name: value.detach().numpy().copy() for name, value in named.items()}


@dataclasses.dataclass(frozen=True)
class _PunctuatedWords:
    """The words of all examples, concatenated."""

    word_W: torch.Tensor
    suffix_W: torch.Tensor
    shape_W: torch.Tensor
    gap_W: torch.Tensor
    density_WF: torch.Tensor
    label_W: torch.Tensor
    weight_W: torch.Tensor
    """Weight in the loss; 0 for words that are no candidates."""


def _table(
    examples: Sequence[Example], check_V: NDArray[np.uint16], settings: PunctuatedSettings
) -> _PunctuatedWords:
    rng = np.random.default_rng(settings.seed)
    columns: list[list[NDArray]] = [[] for _ in dataclasses.fields(_PunctuatedWords)]
    for example in examples:
        row = features_of(example)
        word_W = word_rows(row.word_W, check_V)
        suffix_W = (row.suffix_W % np.uint64(settings.num_suffixes)).astype(np.int32)
        dropped_W = (rng.random(len(word_W)) < example.word_dropout) & (row.kind_W < Kind.IDEOGRAPH)
        word_W[dropped_W] = UNKNOWN_WORD
        suffix_W[dropped_W] = rng.integers(0, settings.num_suffixes, int(dropped_W.sum()))
        word_W[row.start_W < 0] = 0
        density_WF = row.densities(word_W > UNKNOWN_WORD)
        weight_W = np.zeros(len(word_W), np.float32)
        unpunctuated_W = row.unpunctuated(density_WF)
        candidate_M = row.candidates(unpunctuated_W)
        weight_W[candidate_M[~unpunctuated_W[candidate_M]]] = example.weight
        values: tuple[NDArray, ...] = (
            word_W.astype(np.int32),
            suffix_W,
            row.shape_W,
            row.gap_W,
            density_WF,
            labels(row, example).astype(np.float32),
            weight_W,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _PunctuatedWords(*(torch.from_numpy(np.concatenate(column)) for column in columns))


def train_punctuated(
    examples: Sequence[Example],
    settings: PunctuatedSettings,
    check_V: NDArray[np.uint16],
    start: PunctuatedNet | None = None,
    word_vectors: NDArray[np.float32] | None = None,
    report: Report = lambda metrics: None,
) -> PunctuatedModule:
    """A trained module, from scratch (words are initialised with `word_vectors`) or from `start`.

    Equal for equal examples, settings and number of threads. `report` gets step, loss and words per second.
    """
    torch.manual_seed(settings.seed)
    table = _table(examples, check_V, settings)
    net = PunctuatedModule(settings, len(check_V))
    if start is not None:
        net.load(start)
    else:  # the initial bias is the rate of boundaries, so that the network need not learn it
        rate = float((table.label_W * table.weight_W).sum() / table.weight_W.sum().clamp(min=1))
        bias = math.log(max(rate, 1e-4) / max(1 - rate, 1e-4))
        nn.init.constant_(cast("nn.Linear", net.layers[-1]).bias, bias)
        if word_vectors is not None:
            set_words(net.word, word_vectors)
    optimizer, schedule = optimizer_of(net, settings.learning_rate, settings.weight_decay, settings.steps)
    context = torch.arange(-settings.before, settings.stretch + settings.after - 1)
    last = len(table.word_W) - settings.stretch - settings.after
    starts = torch.arange(settings.before, last, settings.stretch)
    generator = torch.Generator().manual_seed(settings.seed)
    meter = Meter("punctuated", settings.steps, settings.batch_stretches * settings.stretch, report)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, settings.steps + 1):
        while len(order) < settings.batch_stretches:
            order = torch.cat([order, starts[torch.randperm(len(starts), generator=generator)]])
        start_B, order = order[: settings.batch_stretches], order[settings.batch_stretches :]
        # Shifted at random, so that a text is not always cut into the same stretches.
        shift = torch.randint(0, settings.stretch, (1,), generator=generator)
        index_BT = (start_B + shift).clamp(max=last)[:, None] + context
        index_BP = index_BT[:, settings.before : settings.before + settings.stretch]
        word_BT = table.word_W[index_BT]
        dropped = (torch.rand(word_BT.shape, generator=generator) < settings.word_dropout) & (word_BT > 0)
        logit_BP = net(
            torch.where(dropped, UNKNOWN_WORD, word_BT),
            table.suffix_W[index_BT],
            table.shape_W[index_BT].int(),
            table.gap_W[index_BT].int(),
            table.density_WF[index_BP],
        )
        weight_BP = table.weight_W[index_BP]
        loss = nn.functional.binary_cross_entropy_with_logits(
            logit_BP, table.label_W[index_BP], weight=weight_BP, reduction="sum"
        ) / weight_BP.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        meter.step(step, loss)
    return net
