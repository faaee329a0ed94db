"""Every number of the configuration has bounds: what is outside is one line of ours, and no job meets it."""

import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config, Section, load_config
from pipeline.errors import ConfigError


def numbers(section=Config, prefix=""):
    """Dotted keys of all fields that may hold a number, and whether a whole one."""
    for name, field in section.model_fields.items():
        kinds = set(parts(field.annotation))
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from numbers(field.annotation, f"{prefix}{name}.")
        if kinds & {int, float} and field.annotation is not bool:
            yield f"{prefix}{name}", float not in kinds


def parts(annotation):
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal or not inner:
        return [annotation]
    return [part for one in inner for part in parts(one)]


NUMBERS = dict(numbers())
VALUES = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 1e308, 5e-324, 2**31, 2**63, 2**64, math.nan, math.inf, -math.inf]),
)


def test_there_are_many():
    assert len(NUMBERS) > 80 and NUMBERS["lm.train.beta1"] is False and NUMBERS["generate.max_tokens"]


@given(st.sampled_from(sorted(NUMBERS)), VALUES)
def test_any_number_is_taken_or_refused_in_our_words(key, value):
    said = {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan" if value != value else repr(value))
    try:
        config = load_config(None, [f"{key}={said}"])
    except ConfigError as error:
        assert key in str(error) or key.rpartition(".")[0] in str(error)
        return
    for name in key.split("."):
        config = getattr(config, name)
    assert config is None or math.isfinite(config if isinstance(config, int | float) else config[0])


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "1e308", str(-(2**70)), str(2**70)])
def test_no_field_takes_what_no_job_could_use(value):
    for key in NUMBERS:
        with pytest.raises(ConfigError):
            load_config(None, [f"{key}={value}"])


@pytest.mark.parametrize(
    "override",
    [
        *("lm.train.beta1=1.5", "lm.train.beta2=1", "vae.token_dropout=1", "vae.latent_dropout=-0.1"),
        *("stream.weights=[]", "stream.weights=[1, .nan]", "stream.weights=[0]", "compare.batch_sizes=[0]"),
        *("compare.position_edges=[0]", "compare.position_edges=[5, 5]", "compare.position_edges=[-1, 5]"),
        *(
            "compare.variants={a: {title: x, stages: {}}}",
            "compare.variants={a: {title: x, stages: {train-lm: 0}}}",
        ),
        *("generate.temperature=1e-300", "vae.ffn_multiplier=1e30", "vae.hidden_size=0"),
    ],
)
def test_bounds_inside_lists_and_of_single_fields(override):
    with pytest.raises(ConfigError):
        load_config(None, [override])


def test_an_override_of_one_key_of_the_trunk_keeps_the_others():
    config = load_config(None, ["trunk.config.hidden_size=64"]).trunk.config
    assert (config["model_type"], config["hidden_size"], config["num_hidden_layers"]) == ("llama", 64, 2)
    assert load_config(None, ["trunk.config={model_type: opt}"]).trunk.config == {"model_type": "opt"}


@pytest.mark.parametrize("value", ["true", "false"])
def test_true_is_no_number(value):
    for key in NUMBERS:
        with pytest.raises(ConfigError, match=f"{key}.* must be .*'{value}'"):
            load_config(None, [f"{key}={value}"])
