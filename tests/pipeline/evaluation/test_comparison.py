"""Which designs are better than token-level models of their speed; how many FLOPs and bytes they take is elsewhere."""

from dataclasses import replace

from pipeline.evaluation.comparison import DesignFigures, beyond_frontier
from pipeline.evaluation.generation_speed import Speed, generation_flops_per_token, measure_speeds


def point(name, kind, bits, speed):
    return DesignFigures(name, name, kind, 1, 1, 1, bits, 1, 0, (Speed(1, speed),), 1.0, curve=(1.0,))


def test_a_design_is_beyond_the_frontier_unless_a_token_level_model_is_as_good_and_as_fast():
    token_level = [point("small", "token-level", 2.0, 100.0), point("large", "token-level", 1.8, 50.0)]
    for bits, speed, beyond in (
        (1.9, 60.0, True),
        (1.9, 40.0, False),
        (2.1, 90.0, False),
        (2.1, 120.0, True),
    ):
        ours = point("ours", "sentence-level", bits, speed)
        assert beyond_frontier(ours, [*token_level, ours], 1) == beyond


def test_with_a_cache_the_frontier_is_that_of_cached_models():
    ours = replace(point("ours", "sentence-level", 1.9, 60.0), cached_bits_per_byte=1.7)
    for cached, beyond in ((1.75, True), (1.65, False)):
        other = replace(point("small", "token-level", 2.0, 100.0), cached_bits_per_byte=cached)
        assert beyond_frontier(ours, [other, ours], 1) == beyond


def test_generators_take_turns_and_the_first_round_is_not_counted():
    calls = []

    def generator(name):
        def generate(batch, seed):
            calls.append((name, batch, seed))
            return batch * 10

        return generate

    speeds = measure_speeds({"a": generator("a"), "b": generator("b")}, [1, 4], repeats=2)
    assert [name for name, *_ in calls] == ["a", "b"] * 6
    assert [seed for *_, seed in calls] == [0] * 4 + [1] * 4 + [2] * 4
    assert {name: [speed.batch for speed in each] for name, each in speeds.items()} == {
        "a": [1, 4],
        "b": [1, 4],
    }


def test_flops_are_per_generated_token():
    import torch

    matrix = torch.ones(8, 8)

    def generate(batch, seed):
        assert batch == 1
        for _ in range(5):
            matrix @ matrix
        return 5

    assert generation_flops_per_token(generate) == 2 * 8**3
