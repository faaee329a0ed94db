"""The protocol of an engine, which computes losses and updates weights, and the plain engine of one process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.config.models import Precision
from pipeline.stream.batches import Batch
from pipeline.training.checkpoint import AVERAGE, BUFFER, MOMENTS, WEIGHT, Checkpoint, Part


class Engine(Protocol):
    """One rank's module and optimizer. Every rank makes the same calls in the same order."""

    rank: int
    world_size: int
    device: torch.device
    scales_loss: bool
    """Whether the loss is scaled (fp16); then steps may be skipped until the scale fits."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch, each a scalar."""

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective, a scalar; a step takes the sum over ranks and calls."""

    def step(self, learning_rate: float) -> float | Tensor:
        """Clip, update, clear gradients -> gradient norm before clipping, a scalar."""

    def evaluating(self) -> Any:
        """A context in which nothing is trained: no gradients, no dropout."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small vector over all ranks."""

    def parts(self) -> list[Part]:
        """This rank's part of the trained weights and optimizer state, to be read or written."""

    def weights_written(self) -> None:
        """Use the weights that were written into `parts`. All ranks call it."""

    def counters(self) -> dict[str, float]:
        """Number of optimizer steps, and the state of the loss scale."""

    def set_counters(self, counters: dict[str, float]) -> None:
        """Load these."""

    def buffers(self) -> dict[str, Tensor]:
        """Persistent buffers of the module in their shapes, the same on every rank."""

    def weights(self) -> dict[str, Tensor]:
        """Copies of all weights in fp32 on the CPU, in their shapes, tied ones once; complete on rank 0. All ranks call
        it."""


def load_checkpoint(engine: Engine, checkpoint: Checkpoint) -> None:
    """Load the whole state of a checkpoint, from any engine and any number of ranks."""
    with torch.no_grad():
        for part in engine.parts():
            for kind in (WEIGHT, *MOMENTS):
                values = part.read(kind)
                part.write(kind, checkpoint.read(kind, part.name, part.start, len(values)))
        for name, buffer in engine.buffers().items():
            buffer.copy_(checkpoint.read(BUFFER, name, 0, buffer.numel()).view_as(buffer))
    engine.set_counters(checkpoint.state["engine"])
    engine.weights_written()


def weights_in(
    checkpoint: Checkpoint, module: nn.Module, on_read: Callable[[int], object] = lambda number: None
) -> dict[str, Tensor]:
    """All weights of a module in fp32, in their shapes: trained ones from the checkpoint (their average if it has
    one), frozen ones from the module.

    `on_read` is called with the number of parameters just read. Raises `TrainingError` where the checkpoint lacks one.
    """
    kind = AVERAGE if checkpoint.has_average else WEIGHT
    weights: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        weights[name] = (
            checkpoint.read(kind, name, 0, parameter.numel()).view(parameter.shape)
            if parameter.requires_grad
            else parameter.detach()
        )
        on_read(parameter.numel())
    for name, buffer in persistent_buffers(module).items():
        weights[name] = checkpoint.read(BUFFER, name, 0, buffer.numel()).view(buffer.shape)
    return weights


def parameter_groups(module: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Weight decay on matrices only; frozen parameters left out."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adam_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a parameter: moments of its shape, and the count of steps. Before the first step, the state that
    it would make."""
    state = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for kind in MOMENTS:
            state[kind] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state


def optimizer_steps(optimizer: torch.optim.Optimizer) -> float:
    """Number of updates done."""
    return max((float(state["step"]) for state in optimizer.state.values()), default=0.0)


def set_optimizer_steps(optimizer: torch.optim.Optimizer, steps: float) -> None:
    """Set the number of updates, for the bias correction of the moments."""
    for state in optimizer.state.values():
        state["step"].fill_(steps)


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Persistent buffers of the module, in their shapes."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in module.state_dict().items() if name not in parameters}


def whole_part(
    name: str, parameter: Tensor, master: Tensor, state: dict[str, Tensor], is_copy: bool = False
) -> Part:
    """All elements of a parameter whose fp32 weight is `master`; moments in `state` have the same shape."""
    tensors = {WEIGHT: master.detach().view(-1), **{kind: state[kind].view(-1) for kind in MOMENTS}}
    return Part(name, tuple(parameter.shape), 0, tensors, is_copy)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A context without gradients and dropout; the mode is restored afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


class PlainEngine:
    """AdamW in one process, on a GPU where there is one; half precision by autocast over fp32 weights."""

    rank, world_size = 0, 1

    def __init__(self, module: nn.Module, config: TrainConfig, precision: Precision = "fp32") -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module, self.config = module.to(self.device).train(), config
        self.half = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.scales_loss = precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scales_loss)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(module, config),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch, each a scalar."""
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            return self.module(batch)

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective, a scalar."""
        self.scaler.scale(objective).backward()

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update, forget gradients -> gradient norm before clipping, a scalar."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return norm

    def evaluating(self) -> Any:
        """A context in which nothing is trained."""
        return evaluating(self.module)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The values in their shape: there is one rank."""
        return values

    def parts(self) -> list[Part]:
        """All trained weights, whole."""
        return [
            whole_part(name, parameter, parameter, adam_state(self.optimizer, parameter))
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
        ]

    def weights_written(self) -> None:
        """Nothing to do: these are the weights that it computes with."""

    def counters(self) -> dict[str, float]:
        """Number of optimizer steps, and the loss scale with the steps since its last change."""
        scale = self.scaler.state_dict()
        known = (
            {"loss_scale": scale["scale"], "steps_at_loss_scale": scale["_growth_tracker"]} if scale else {}
        )
        return {"optimizer_steps": optimizer_steps(self.optimizer), **known}

    def set_counters(self, counters: dict[str, float]) -> None:
        """Go on from these."""
        set_optimizer_steps(self.optimizer, counters["optimizer_steps"])
        if self.scales_loss and "loss_scale" in counters:
            self.scaler.load_state_dict(
                self.scaler.state_dict()
                | {
                    "scale": counters["loss_scale"],
                    "_growth_tracker": int(counters["steps_at_loss_scale"]),
                }
            )

    def buffers(self) -> dict[str, Tensor]:
        """Buffers that belong to the weights, in their shapes."""
        return persistent_buffers(self.module)

    def weights(self) -> dict[str, Tensor]:
        """Copies of all weights in fp32 on the CPU in their shapes, tied ones once."""
        named = {**dict(self.module.named_parameters()), **self.buffers()}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in named.items()}
