"""The protocol `pipeline.training.engine.Engine` on DeepSpeed ZeRO."""

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infra import deepspeed_internals as internals
from infra.deepspeed_config import settings
from pipeline.config import DeepSpeedConfig, TrainConfig
from pipeline.errors import ConfigError
from pipeline.stream.batches import Batch
from pipeline.training.checkpoint import MOMENTS, WEIGHT, Part
from pipeline.training.engine import (
    Precision,
    adam_state,
    evaluating,
    optimizer_steps,
    parameter_groups,
    persistent_buffers,
    set_optimizer_steps,
    whole_part,
)


class DeepSpeedEngine:
    """One rank of a DeepSpeed run; the process group must exist."""

    def __init__(
        self, module: nn.Module, config: TrainConfig, deepspeed_config: DeepSpeedConfig, precision: Precision
    ) -> None:
        use_gpu = torch.cuda.is_available()
        if not use_gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed

        internals.do_not_compile_shm_all_reduce()
        _check_machine(deepspeed_config, precision)
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        local_gpu = int(os.environ.get("LOCAL_RANK", "0")) if use_gpu else 0
        self.device = torch.device("cuda", local_gpu) if use_gpu else torch.device("cpu")
        self.rounds = -(-config.micro_batches_per_step // self.world_size)
        self.scales_loss = precision == "fp16"
        # Our own optimizer: DeepSpeed's CPUAdam would compile at the first start; torch's fused AdamW is
        # vectorised on the CPU too, where offloading puts it.
        optimizer = torch.optim.AdamW(
            parameter_groups(module, config),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=settings(config, deepspeed_config, precision, self.rounds),
        )
        self.base: torch.optim.Optimizer = optimizer
        self.stage: int = self.engine.zero_optimization_stage()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch, each a scalar."""
        return self.engine(batch)

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective, a scalar, and count the round."""
        # DeepSpeed takes the mean over ranks and rounds; a step is their sum.
        self.engine.backward(objective * (self.rounds * self.world_size))
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()  # this only counts until the last micro-batch

    def step(self, learning_rate: float) -> float | Tensor:
        """Clip, update, clear gradients -> gradient norm before clipping, a scalar; infinite where the step was
        skipped."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        # Without ZeRO and mixed precision DeepSpeed clips, but does not return the norm.
        norm = self._plain_norm() if self.optimizer is self.base else None
        skipped = self.engine.skipped_steps
        self.engine.step()
        if norm is None:
            norm = self.engine.get_global_grad_norm()
        if self.engine.skipped_steps > skipped or norm is None:
            return math.inf
        # DeepSpeed returns -1 for a norm that is not finite.
        return (
            torch.where(norm < 0, math.inf, norm)
            if isinstance(norm, Tensor)
            else norm
            if norm >= 0
            else math.inf
        )

    def evaluating(self) -> Any:
        """A context in which nothing is trained."""
        return evaluating(self.engine.module)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small vector over all ranks."""
        torch.distributed.all_reduce(values)
        return values

    def parts(self) -> list[Part]:
        """This rank's partition of the trained weights and optimizer state; without ZeRO all of them."""
        found = []
        for name, parameter in self.engine.module.named_parameters():
            if parameter.requires_grad:
                part = self._part(name, parameter)
                if part is not None:
                    found.append(part)
        return found

    def weights_written(self) -> None:
        """Cast the fp32 partitions to the weights that the module computes with, and gather those."""
        if self.stage == 3:
            internals.cast_masters_at_stage_3(self.optimizer)
        elif self.stage > 0:
            internals.cast_masters_at_stages_1_and_2(self.optimizer)
        else:
            for parameter, master in self._masters().items():
                if parameter is not master:
                    parameter.data.copy_(master.data)

    def counters(self) -> dict[str, float]:
        """Number of optimizer steps, and the loss scale with its counters."""
        found = {"optimizer_steps": optimizer_steps(self.base)}
        if self.scales_loss:
            found |= internals.loss_scale_counters(self.optimizer)
        return found

    def set_counters(self, counters: dict[str, float]) -> None:
        """Load these."""
        set_optimizer_steps(self.base, counters["optimizer_steps"])
        if self.scales_loss:
            internals.set_loss_scale_counters(self.optimizer, counters)

    def buffers(self) -> dict[str, Tensor]:
        """Persistent buffers of the module, in their shapes."""
        return persistent_buffers(self.engine.module)

    def weights(self) -> dict[str, Tensor]:
        """Copies of all weights in fp32 on the CPU, in their shapes, tied ones once; from the fp32 masters where there
        are any."""
        parts = {part.name: part for part in self.parts()}
        named: dict[str, Tensor] = {}
        for name, parameter in self.engine.module.named_parameters():
            if not parameter.requires_grad:
                full = internals.gathered(parameter)
            elif self.stage == 0:
                full = parts[name].read(WEIGHT).view(parameter.shape)
            else:
                full = self._assembled(parts.get(name), internals.full_shape(parameter))
            named[name] = full.detach().to("cpu", torch.float32, copy=True).contiguous()
        return {**named, **self.buffers()}

    def _part(self, name: str, parameter: nn.Parameter) -> Part | None:
        """The elements of one parameter on this rank; None where it has none."""
        if self.stage == 0:
            master = self._masters()[parameter]
            return whole_part(name, parameter, master, adam_state(self.base, master), is_copy=self.rank > 0)
        held = (
            internals.partition_at_stage_3(self.optimizer, parameter, self.rank)
            if self.stage == 3
            else internals.partition_at_stages_1_and_2(self.base, parameter)
        )
        if held is None:
            return None
        if held.flat is None:
            return _SwappedPart(name, held.shape, held.start, {}, parameter=parameter, size=held.size)
        state = adam_state(self.base, held.flat)
        tensors = {WEIGHT: held.flat.detach(), **{kind: state[kind] for kind in MOMENTS}}
        own = {kind: tensor.narrow(0, held.offset, held.size) for kind, tensor in tensors.items()}
        return Part(name, held.shape, held.start, own)

    def _masters(self) -> dict[Tensor, Tensor]:
        """Without ZeRO: the fp32 weight of each trained parameter, itself in fp32 training."""
        if self.optimizer is self.base:
            return {p: p for group in self.base.param_groups for p in group["params"]}
        return dict(internals.masters_without_zero(self.optimizer))

    def _assembled(self, part: Part | None, shape: torch.Size) -> Tensor:
        """A whole weight from the parts of all ranks."""
        full = torch.zeros(math.prod(shape), device=self.device)
        if part is not None:
            values = part.read(WEIGHT)
            full[part.start : part.start + len(values)] = values
        torch.distributed.all_reduce(full)
        return full.view(shape)

    def _plain_norm(self) -> Tensor:
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)


@dataclass(frozen=True)
class _SwappedPart(Part):
    """A part with optimizer state on NVMe, which is read and written by DeepSpeed's swapper."""

    parameter: nn.Parameter = None  # type: ignore[assignment]
    size: int = 0

    def read(self, kind: str) -> Tensor:
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        padded = (
            safe_get_local_fp32_param(self.parameter)
            if kind == WEIGHT
            else safe_get_local_optimizer_state(self.parameter, kind)
        )
        return padded[: self.size].clone()  # the swapper uses its buffer again

    def write(self, kind: str, values: Tensor) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        padded = torch.zeros(internals.padded_partition_size(self.parameter), device=values.device)
        padded[: self.size] = values
        if kind == WEIGHT:
            safe_set_local_fp32_param(self.parameter, padded)
        else:
            safe_set_local_optimizer_state(self.parameter, padded, kind)


def _check_machine(config: DeepSpeedConfig, precision: Precision) -> None:
    """Raise `ConfigError` for options that this machine does not support, before DeepSpeed fails."""
    from deepspeed.accelerator import get_accelerator

    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if precision == "fp16" and not get_accelerator().is_fp16_supported():
        raise ConfigError(
            "precision=fp16: this processor has no fp16 arithmetic, which DeepSpeed needs: use precision=bf16, "
            "or launcher=local, which emulates it"
        )
    if config.uses_nvme and not internals.has_async_io():
        raise ConfigError(
            "deepspeed.offload_*=nvme needs the library libaio with its headers (libaio-dev) on each node: "
            "install it, or offload to cpu"
        )
