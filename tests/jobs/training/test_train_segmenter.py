import pytest

from jobs.training.train_segmenter import run, training_of
from pipeline.config import load_config
from pipeline.errors import ConfigError
from segmenters.learned.weights_file import SHIPPED_WEIGHTS


def test_it_needs_gold_and_an_output_folder() -> None:
    with pytest.raises(ConfigError, match=r"needs segmenter_training\.gold"):
        run(load_config(None, ["output=x"]))


def test_options_reach_the_training_of_the_network_that_they_name() -> None:
    options = "{gold: [{path: a.jsonl}], raw: [{path: b.jsonl, weight: 0.5}], start_from: shipped, steps: 3,"
    options += " unpunctuated_steps: 4, learning_rate: 0.1, unpunctuated_learning_rate: 0.2, seed: 7}"
    training = training_of(load_config(None, [f"segmenter_training={options}"]).segmenter_training)
    assert training.gold == {"a.jsonl": 1.0} and training.raw == {"b.jsonl": 0.5}
    assert training.start_from == SHIPPED_WEIGHTS and training.seed == 7
    punctuated, unpunctuated = training.punctuated, training.unpunctuated
    assert (punctuated.steps, punctuated.learning_rate, punctuated.seed) == (3, 0.1, 7)
    assert (unpunctuated.steps, unpunctuated.learning_rate, unpunctuated.seed) == (4, 0.2, 7)
