"""The configuration of DeepSpeed."""

import pytest

from infra.deepspeed_config import merge, settings
from pipeline.config import DeepSpeedConfig, TrainConfig


def test_a_raw_deepspeed_configuration_is_merged_section_by_section():
    ours = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": False}}
    theirs = {"zero_optimization": {"overlap_comm": True}, "wall_clock_breakdown": True}
    assert merge(ours, theirs) == {
        "zero_optimization": {"stage": 2, "overlap_comm": True},
        "bf16": {"enabled": False},
        "wall_clock_breakdown": True,
    }


def test_auto_is_left_to_us_or_to_deepspeed():
    theirs = {
        "train_batch_size": "auto",
        "zero_optimization": {"stage": "auto", "reduce_bucket_size": "auto"},
    }
    assert merge({"zero_optimization": {"stage": 2}}, theirs) == {"zero_optimization": {"stage": 2}}


def test_offloading_has_deepspeeds_names():
    config = DeepSpeedConfig(
        zero_stage=3,
        offload_optimizer="nvme",
        offload_parameters="cpu",
        nvme_path="/nvme",
        config={"zero_optimization": {"offload_optimizer": {"buffer_count": 8}}},
    )
    assert settings(TrainConfig(), config, "fp16", 4)["zero_optimization"] == {
        "stage": 3,
        "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme", "buffer_count": 8},
        "offload_param": {"device": "cpu"},
    }


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_are_summed_in_fp32_where_deepspeed_can(stage, precision):
    def chosen(accumulation, **options):
        config = DeepSpeedConfig(zero_stage=stage, **options)
        found = settings(TrainConfig(), config, precision, accumulation)
        return found.get("data_types"), found.get("communication_data_type")

    sums = {"grad_accum_dtype": "fp32"} if stage >= 1 and precision != "fp32" else None
    assert chosen(4) == (sums, "fp32" if sums and stage == 1 else None)
    assert chosen(1) == (sums if stage >= 2 else None, None)  # at stage 1 one gradient needs no sum
    own = {"data_types": {"grad_accum_dtype": "bf16"}}
    assert chosen(4, config=own)[0] == {"grad_accum_dtype": "bf16"}
