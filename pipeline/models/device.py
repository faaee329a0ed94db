"""The device on which models are evaluated and generate text."""

import torch

CPU = "CPU"
NO_CUDA = "ray.use_gpu=true, but PyTorch finds no CUDA device where the model is: it runs on the CPU"


def device_for(may_use_gpu: bool = True) -> torch.device:
    """CUDA, where it is there and may be used; else the CPU."""
    return torch.device("cuda" if may_use_gpu and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Name of the GPU, or `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else CPU
