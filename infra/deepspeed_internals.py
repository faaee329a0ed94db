"""What sllm uses of DeepSpeed beyond its documented interface: the ZeRO partitions, fp32 masters and loss scaler.

All such uses are here. `MEMBERS` lists them, and a test fails for each one that the installed DeepSpeed lacks. Because
of them `pyproject.toml` pins DeepSpeed below its next minor version.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_STAGE_3 = "deepspeed.runtime.zero.stage3:DeepSpeedZeroOptimizer_Stage3"
_STAGES_1_2 = "deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer"
_PARAMETERS = "deepspeed.runtime.zero.partition_parameters"
_FRAGMENTS = "deepspeed.utils.tensor_fragment"

MEMBERS: dict[str, tuple[str, ...]] = {
    "deepspeed.ops": ("__compatible_ops__",),
    "deepspeed.ops.op_builder": ("AsyncIOBuilder",),
    _STAGE_3: (
        "grad_position",
        "get_param_id",
        "fp16_groups",
        "fp32_partitioned_groups_flat",
        "checkpoint_event_prologue",
        "checkpoint_event_epilogue",
        "_swappable_optimizer_subgroup",
        "_reassign_or_swap_out_partitioned_parameters",
        "_prepare_sub_group",
        "_release_sub_group",
        "loss_scaler",
    ),
    _STAGES_1_2: ("_hp_mapping", "update_lp_params", "loss_scaler"),
    "deepspeed.runtime.bf16_optimizer:BF16_Optimizer": ("_hp_mapping", "update_lp_params"),
    "deepspeed.runtime.fp16.unfused_optimizer:FP16_UnfusedOptimizer": (
        "fp16_groups",
        "fp32_groups",
        "loss_scale_config",
    ),
    "deepspeed.runtime.fp16.loss_scaler:DynamicLossScaler": (
        "cur_scale",
        "cur_iter",
        "last_overflow_iter",
        "cur_hysteresis",
    ),
    "deepspeed.runtime.fp16.loss_scaler:LossScaleConfig": ("cur_scale", "cur_iter", "last_overflow_iter"),
    _PARAMETERS: ("ds_id", "ds_shape", "ds_tensor", "ds_numel"),
    f"{_FRAGMENTS}:tensor_fragment": ("lp_fragment_address", "hp_fragment_address", "param_group_index"),
    f"{_FRAGMENTS}:fragment_address": ("start", "numel"),
}
"""The members in use by `module` or `module:Class`: its attributes, or attributes of objects that it makes."""

_SCALER_COUNTERS = ("cur_iter", "last_overflow_iter", "cur_hysteresis")


class Partition(NamedTuple):
    """Location of a rank's elements of one parameter."""

    shape: tuple[int, ...]
    """Shape of the whole parameter."""
    start: int
    """Index of the rank's first element."""
    size: int
    """Number of elements on the rank."""
    flat: Tensor | None
    """The flat fp32 weights that contain them; None where they are on NVMe."""
    offset: int
    """Offset of the elements in `flat`."""


def do_not_compile_shm_all_reduce() -> None:
    """Use gloo to reduce between processes on a CPU: DeepSpeed's own operation would be compiled at the first start."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def has_async_io() -> bool:
    """Whether this machine can compile the offloading to NVMe."""
    from deepspeed.ops.op_builder import AsyncIOBuilder

    return bool(AsyncIOBuilder().is_compatible(verbose=False))


def partition_at_stage_3(optimizer: Any, parameter: Any, rank: int) -> Partition | None:
    """Location of a parameter's elements at ZeRO stage 3; None where the rank has none."""
    shape = tuple(parameter.ds_shape)
    group, offset, padded = optimizer.grad_position[optimizer.get_param_id(parameter)]
    start = rank * padded
    size = min(padded, math.prod(shape) - start)
    if size <= 0:
        return None
    swapped = optimizer._swappable_optimizer_subgroup(group)
    flat = None if swapped else optimizer.fp32_partitioned_groups_flat[group]
    return Partition(shape, start, size, flat, offset)


def partition_at_stages_1_and_2(base: torch.optim.Optimizer, parameter: Any) -> Partition | None:
    """Location of a parameter's elements at ZeRO stage 1 or 2; `base` is the inner optimizer. None where the rank has
    none."""
    mapping = parameter._hp_mapping
    if mapping is None or mapping.hp_fragment_address.numel <= 0:
        return None
    flat = base.param_groups[mapping.param_group_index]["params"][0]
    address = mapping.hp_fragment_address
    shape, start = tuple(parameter.shape), mapping.lp_fragment_address.start
    return Partition(shape, start, address.numel, flat, address.start)


def full_shape(parameter: Any) -> torch.Size:
    """Shape of the whole parameter, also when stage 3 has partitioned it."""
    return getattr(parameter, "ds_shape", parameter.shape)


def padded_partition_size(parameter: Any) -> int:
    """Elements of a rank's partition of the parameter at stage 3, with its padding."""
    return int(parameter.ds_tensor.ds_numel)


def gathered(parameter: Any) -> Tensor:
    """The whole parameter in its shape; a copy when stage 3 has partitioned it."""
    if not hasattr(parameter, "ds_id"):
        return parameter.data
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.data.clone()


def masters_without_zero(optimizer: Any) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Each half-precision parameter at stage 0 with its fp32 master of the same shape."""
    for half, full in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
        yield from zip(half, full, strict=True)


def cast_masters_at_stage_3(optimizer: Any) -> None:
    """Cast the fp32 partitions to the weights that the module computes with."""
    optimizer.checkpoint_event_prologue()
    for group in range(len(optimizer.fp16_groups)):
        if not optimizer._swappable_optimizer_subgroup(group):
            optimizer._reassign_or_swap_out_partitioned_parameters(group)
            continue
        optimizer._prepare_sub_group(group, set())
        optimizer._reassign_or_swap_out_partitioned_parameters(group)
        optimizer._release_sub_group(group, set())
    optimizer.checkpoint_event_epilogue()


def cast_masters_at_stages_1_and_2(optimizer: Any) -> None:
    """Cast the fp32 partitions to the weights that the module computes with, and gather those."""
    optimizer.update_lp_params()


def loss_scale_counters(optimizer: Any) -> dict[str, float]:
    """The dynamic loss scale of fp16 and the counters that decide when it changes."""
    scaler = _scaler(optimizer)
    return {
        "loss_scale": float(scaler.cur_scale),
        "steps_at_loss_scale": float(scaler.cur_iter - scaler.last_overflow_iter - 1),
        **{name: float(getattr(scaler, name)) for name in _counters_of(scaler)},
    }


def set_loss_scale_counters(optimizer: Any, counters: dict[str, float]) -> None:
    """Load the counters of `loss_scale_counters`."""
    if "loss_scale" not in counters:
        return
    scaler = _scaler(optimizer)
    scaler.cur_scale = counters["loss_scale"]
    for name in _counters_of(scaler):
        if name in counters:
            setattr(scaler, name, int(counters[name]))


def _counters_of(scaler: Any) -> Iterable[str]:
    return (name for name in _SCALER_COUNTERS if hasattr(scaler, name))


def _scaler(optimizer: Any) -> Any:
    return getattr(optimizer, "loss_scale_config", None) or optimizer.loss_scaler
