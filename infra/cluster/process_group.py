"""The process group of the training workers: NCCL where they have GPUs that work, else gloo."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from pipeline.errors import ConfigError


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Ray asks for NCCL wherever GPUs are reserved; without CUDA that fails."""
        if worker_group.get_resources_per_worker().get("GPU", 0):
            with_cuda = worker_group.execute(torch.cuda.is_available)
            if any(with_cuda) and not all(with_cuda):
                without = [rank for rank, found in enumerate(with_cuda) if not found]
                raise ConfigError(
                    f"workers {without} of {len(with_cuda)} have no CUDA: give them nodes that have, with "
                    "ray.node_labels, or mend PyTorch and the driver there"
                )
            backend_config = replace(backend_config, backend="nccl" if all(with_cuda) else "gloo")
        super().on_start(worker_group, backend_config)


@dataclass
class ProcessGroup(TorchConfig):
    """Settings of the process group, for Ray Train."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """The class that sets it up."""
        return _Backend
