"""What is waited for is told, and what a killed controller reserved is given back."""

import ray
from ray.util import placement_group, placement_group_table

from infra.cluster.placement import remove_left_groups, scaling, waited_for
from pipeline.config import RayConfig


def test_a_wait_is_told_and_left_resources_are_given_back(ray_cluster):
    assert waited_for(RayConfig()) is None
    text = waited_for(RayConfig(num_workers=(3, 9), use_gpu=True, node_labels={"pool": "big"}))
    assert text is not None and "waits for 3 to 9 workers with 1 CPUs and 1 GPU each" in text
    assert "pool=big" in text and "2 of 2 CPUs free" in text and "1 node." in text
    left = placement_group([{"CPU": 1}] * 2)
    ray.get(left.ready(), timeout=60)
    assert waited_for(RayConfig()) is None  # they have their resources, and start
    pending = placement_group([{"CPU": 1}])
    remove_left_groups()
    states = [placement_group_table(group)["state"] for group in (left, pending)]
    assert states == ["REMOVED", "REMOVED"]


def test_the_configuration_reaches_ray_train():
    asked = scaling(
        RayConfig(num_workers=(1, 4), cpus_per_worker=2, placement="SPREAD", node_labels={"zone": "a"})
    )
    assert (asked.min_workers, asked.max_workers, asked.placement_strategy) == (1, 4, "SPREAD")
    assert asked.label_selector == {"zone": "a"} and asked.resources_per_worker == {"CPU": 2}
    assert scaling(RayConfig()).num_workers == 2 and scaling(RayConfig()).label_selector is None
