"""Training of the network that corrects the rule, in torch.

Shape suffixes: M places, B places of a batch, C columns (features, then words), H hidden width, R rows of the tables.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segmenters.learned.correction.network import Vocabulary
from segmenters.learned.correction.places import FEATURES, WORDS
from segmenters.learned.networks import LEAK
from segmenters.learned.training.features import Meter, Report, optimizer_of
from segmenters.learned.training.open_places import OpenPlaces

NUM_BUCKETS = (2**14, 2**14, 2**13, 2**13, 2**13, 2**13)
"""Buckets of each of `WORDS`."""
LEAST_COUNT = 4
"""Occurrences from which on a word has a row."""


@dataclasses.dataclass(frozen=True)
class CorrectionSettings:
    """Size of the network and length of its training."""

    hidden: tuple[int, int] = (32, 32)
    steps: int = 1200
    batch: int = 8192
    """Places of a step."""
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    dropout: float = 0.2
    """On the hidden layer."""
    all_words_dropout: float = 0.35
    """Share of the places whose words are all hidden, as in a language that was not trained on."""
    word_dropout: float = 0.15
    """Share of the words hidden at the other places."""
    statistics_dropout: float = 0.15
    """Share of the places whose statistics of words are hidden."""
    seed: int = 0


class CorrectionModule(nn.Module):
    """`CorrectionNet` in torch."""

    def __init__(self, settings: CorrectionSettings, num_rows: int) -> None:
        super().__init__()
        first, second = settings.hidden
        self.table = nn.Embedding(num_rows, first)
        nn.init.normal_(self.table.weight[: sum(FEATURES.values())], std=0.1)
        nn.init.zeros_(self.table.weight[sum(FEATURES.values()) :])
        self.bias = nn.Parameter(torch.zeros(first))
        self.inner, self.outer = nn.Linear(first, second), nn.Linear(second, 1)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, rows_BC: torch.Tensor) -> torch.Tensor:
        """Log-odds `[B]`."""
        hidden_BH = nn.functional.embedding_bag(rows_BC, self.table.weight, mode="sum") + self.bias
        hidden_BH = self.dropout(nn.functional.leaky_relu(hidden_BH, LEAK))
        return self.outer(nn.functional.leaky_relu(self.inner(hidden_BH), LEAK)).squeeze(-1)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The values under their names in a weights file, in the shapes of the parameters."""
        named = {"correction.table": self.table.weight, "correction.bias": self.bias}
        for name in ("inner", "outer"):
            layer = getattr(self, name)
            named |= {f"correction.{name}.weight": layer.weight, f"correction.{name}.bias": layer.bias}
        return {name: value.detach().numpy().copy() for name, value in named.items()}


def train_correction(
    data: OpenPlaces,
    vocabulary: Vocabulary,
    settings: CorrectionSettings,
    report: Report = lambda metrics: None,
) -> CorrectionModule:
    """A trained module. Equal for equal data, settings and number of threads."""
    torch.manual_seed(settings.seed)
    net = CorrectionModule(settings, vocabulary.num_rows)
    rows, _ = vocabulary.rows(data.places)
    rows_MC = torch.from_numpy(rows.astype(np.int32))
    label_M = torch.from_numpy(data.label_M.astype(np.float32))
    weight_M = torch.from_numpy(data.weight_M / data.weight_M.mean())
    count, size = len(rows_MC), min(settings.batch, len(rows_MC))
    unknown_K = torch.tensor(vocabulary.unknown_rows, dtype=torch.int32)
    names = list(FEATURES)
    starts = np.cumsum([0, *FEATURES.values()])
    statistic_columns = [number for number, name in enumerate(names) if name.startswith("statistics")]
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer, schedule = optimizer_of(net, settings.learning_rate, settings.weight_decay, settings.steps)
    meter = Meter("correction", settings.steps, size, report)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, settings.steps + 1):
        if len(order) < size:
            order = torch.randperm(count, generator=generator)
        chosen, order = order[:size], order[size:]
        rows_BC = rows_MC[chosen]
        words_BK = rows_BC[:, -len(WORDS) :]
        hidden_BK = torch.rand(words_BK.shape, generator=generator) < settings.word_dropout
        hidden_BK |= torch.rand((size, 1), generator=generator) < settings.all_words_dropout
        rows_BC[:, -len(WORDS) :] = torch.where(hidden_BK, unknown_K, words_BK)
        bare_B = torch.rand(size, generator=generator) < settings.statistics_dropout
        for column in statistic_columns:
            rows_BC[bare_B, column] = int(starts[column])
        loss = nn.functional.binary_cross_entropy_with_logits(
            net(rows_BC), label_M[chosen], weight=weight_M[chosen]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        meter.step(step, loss)
    return net


def together(parts: Sequence[OpenPlaces]) -> OpenPlaces:
    """The places of all parts."""
    places = type(parts[0].places)(
        *(np.concatenate(c) for c in zip(*(part.places for part in parts), strict=True))
    )
    return OpenPlaces(
        places,
        np.concatenate([part.label_M for part in parts]),
        np.concatenate([part.weight_M for part in parts]),
    )
