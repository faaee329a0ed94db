"""The DeepSpeed configuration: our options under its names, and a raw configuration merged over them."""

from typing import Any

from pipeline.config import DeepSpeedConfig, TrainConfig
from pipeline.config.paths import resolved_path
from pipeline.training.engine import Precision


def settings(
    train: TrainConfig, config: DeepSpeedConfig, precision: Precision, accumulation: int
) -> dict[str, Any]:
    """The JSON configuration of `deepspeed.initialize`; `accumulation`: micro-batches per rank in a step."""
    zero: dict[str, Any] = {"stage": config.zero_stage}
    for key, target in (
        ("offload_optimizer", config.offload_optimizer),
        ("offload_param", config.offload_parameters),
    ):
        if target != "none":
            path = {"nvme_path": resolved_path(str(config.nvme_path))} if target == "nvme" else {}
            zero[key] = {"device": target, **path}
    ours = {
        # For DeepSpeed a micro-batch is one call of forward; its size is ours.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": train.max_gradient_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
    }
    # Else gradients of micro-batches are summed in half precision: 0.8 % off after 64 of them. Stage 0 has no such
    # choice.
    if precision != "fp32" and (config.zero_stage >= 2 or (config.zero_stage == 1 and accumulation > 1)):
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
        if (
            config.zero_stage == 1
        ):  # it casts the sum to this type, also with one rank: 0.2 % off in half precision
            ours["communication_data_type"] = "fp32"
    return merge(ours, config.config)


def merge(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """A raw DeepSpeed configuration over ours, section by section; "auto" leaves a value to us, or to DeepSpeed."""
    merged = dict(ours)
    for key, value in theirs.items():
        if isinstance(value, dict):
            known = merged.get(key)
            merged[key] = merge(known if isinstance(known, dict) else {}, value)
        elif value != "auto":
            merged[key] = value
    return merged
