"""DeepSpeed ZeRO behind the `pipeline.engine.Engine` protocol."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.batches import Batch
from pipeline.config import DeepSpeedConfig, TrainConfig
from pipeline.engine import evaluating, parameter_groups, persistent_buffers
from pipeline.errors import TrainingError

TAG = "engine"


class DeepSpeedEngine:
    """One rank of a DeepSpeed run; the process group must be there before."""

    def __init__(
        self, module: nn.Module, config: TrainConfig, deepspeed_config: DeepSpeedConfig, precision: str
    ) -> None:
        use_gpu = torch.cuda.is_available()
        if not use_gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed

        # Its shared-memory all-reduce would be compiled at the first start; gloo needs no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        local_gpu = int(os.environ.get("LOCAL_RANK", "0")) if use_gpu else 0
        self.device = torch.device("cuda", local_gpu) if use_gpu else torch.device("cpu")
        self.rounds = -(-config.micro_batches_per_step // self.world_size)
        # Our own optimizer: DeepSpeed's CPUAdam would compile at the first start, and takes one weight decay.
        optimizer = torch.optim.AdamW(
            parameter_groups(module, config), lr=config.learning_rate, betas=(config.beta1, config.beta2)
        )
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.rounds,
            "gradient_clipping": config.max_gradient_norm,
            "zero_optimization": {"stage": deepspeed_config.zero_stage},
            "bf16": {"enabled": precision == "bf16"},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31 - 1,
        }
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=merge(settings, deepspeed_config.config)
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The module's sums over a batch."""
        return self.engine(batch)

    def backward(self, objective: Tensor) -> None:
        """Add the gradient of one micro-batch's objective, and count the round."""
        # DeepSpeed takes the mean over ranks and rounds; a step is their sum.
        self.engine.backward(objective * (self.rounds * self.world_size))
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()  # between boundaries this only counts

    def step(self, learning_rate: float) -> float | Tensor:
        """Clip, update, forget gradients -> gradient norm before clipping."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        plain = self.engine.zero_optimization_stage() == 0 and not self.engine.bfloat16_enabled()
        # Without ZeRO and mixed precision DeepSpeed clips, but does not tell the norm.
        norm = self._plain_norm() if plain else None
        self.engine.step()
        return self.engine.get_global_grad_norm() if norm is None else norm

    def evaluating(self) -> Any:
        """A context in which nothing is trained."""
        return evaluating(self.engine.module)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small vector over all ranks."""
        torch.distributed.all_reduce(values)
        return values

    def save(self, folder: Path) -> None:
        """Write this rank's part of weights and optimizer state."""
        self.engine.save_checkpoint(str(folder), tag=TAG)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; DeepSpeed's own silence about a missing part becomes an error."""
        path, _ = self.engine.load_checkpoint(str(folder), tag=TAG)
        if path is None:
            raise TrainingError(f"the checkpoint in {folder} lacks DeepSpeed's part {TAG!r}: it is damaged")

    def weights(self) -> dict[str, Tensor]:
        """All weights in fp32 on the CPU, tied ones once; the fp32 master copy where ZeRO keeps one."""
        from deepspeed.utils import safe_get_full_fp32_param

        named: dict[str, Tensor] = {}
        for name, parameter in self.engine.module.named_parameters():
            full = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
            if full is None:
                full = self._gathered(parameter)
            named[name] = full.detach().float().cpu().contiguous()
        return {**named, **persistent_buffers(self.engine.module)}

    def _plain_norm(self) -> Tensor:
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def _gathered(self, parameter: nn.Parameter) -> Tensor:
        if not hasattr(parameter, "ds_id"):
            return parameter.data
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.data.clone()


def merge(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """A raw DeepSpeed configuration over ours, section by section."""
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
