"""What turns a loss into a step: the plain engine of one process, and what any engine promises."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.batches import Batch
from pipeline.config import TrainConfig


class Engine(Protocol):
    """One rank's module and optimizer. Every rank makes the same calls in the same order."""

    rank: int
    world_size: int
    device: torch.device

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch."""

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective; a step takes the sum over ranks and rounds."""

    def step(self, learning_rate: float) -> float | Tensor:
        """Clip, update, forget gradients -> gradient norm before clipping."""

    def evaluating(self) -> Any:
        """A context in which nothing is trained: no gradients, no dropout."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small vector over all ranks."""

    def save(self, folder: Path) -> None:
        """Write this rank's part of weights and optimizer state."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

    def weights(self) -> dict[str, Tensor]:
        """All weights in fp32 on the CPU, tied ones once; complete on rank 0. All ranks call it."""


def parameter_groups(module: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Weight decay on matrices only; frozen parameters left out."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that belong to the weights."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in module.state_dict().items() if name not in parameters}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No gradients, no dropout; back to what it was afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


class PlainEngine:
    """AdamW in one process, on a GPU where there is one; bf16 by autocast over fp32 weights."""

    rank, world_size = 0, 1

    def __init__(
        self, module: nn.Module, config: TrainConfig, precision: Literal["fp32", "bf16"] = "fp32"
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module, self.config, self.precision = module.to(self.device).train(), config, precision
        self.optimizer = torch.optim.AdamW(
            parameter_groups(module, config),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.module(batch)

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective."""
        objective.backward()

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update, forget gradients -> gradient norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def evaluating(self) -> Any:
        """A context in which nothing is trained."""
        return evaluating(self.module)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """There is one rank."""
        return values

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state."""
        state = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, folder / "plain_engine.pt")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        state = torch.load(folder / "plain_engine.pt", map_location=self.device, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """All weights in fp32 on the CPU, tied ones once."""
        named = {**dict(self.module.named_parameters()), **persistent_buffers(self.module)}
        return {name: value.detach().cpu().contiguous() for name, value in named.items()}
