import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.config import Config, load_config
from pipeline.config.documentation import all_keys, markdown

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def sllm(*arguments):
    return CliRunner().invoke(app, ["config", *arguments])


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run: sllm config --markdown > docs/configuration.md"
    )


def test_each_key_has_a_description_and_its_default_is_taken():
    keys = all_keys()
    assert [one.key for one in keys if not one.description] == []
    assert len({one.key for one in keys}) == len(keys)
    plain = [one for one in keys if one.section is None and not {"N", "NAME"} & set(one.key.split("."))]
    assert len(plain) > 100
    # A default that is given as it is shown leaves the configuration as it is.
    given = [f"{one.key}={one.shown_default}" for one in plain if one.default is not None]
    assert load_config(None, given) == load_config(None, []) == Config()


def test_a_key_a_section_and_all():
    one = sllm("vae.num_layers")
    assert one.exit_code == 0 and one.stdout.startswith(
        "vae.num_layers\n    whole number, at least 1, at most 24"
    )
    assert "default 1" in one.stdout and one.stdout.count("vae.") == 1
    section = sllm("lm").stdout
    assert (
        section.startswith("lm\n    section\n") and "\nlm.train.steps\n" in section and "vae." not in section
    )
    assert len(sllm().stdout) > len(section) and "\ncompare.variants.NAME.title\n" in sllm().stdout


def test_json_has_types_and_defaults():
    (found,) = json.loads(sllm("data.filters.0.name", "--json").stdout)
    assert (
        found["key"] == "data.filters.N.name" and found["required"] and "`near_duplicates`" in found["type"]
    )
    (found,) = json.loads(sllm("trunk.config.hidden_size", "--json").stdout)
    assert found["key"] == "trunk.config" and found["default"]["hidden_size"] == 128
    (found,) = json.loads(sllm("output", "--json").stdout)
    assert (found["type"], found["default"], found["required"]) == ("path or URL, or `null`", None, False)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("vae.num_layer", "there is no key 'vae.num_layer'; the nearest is 'vae.num_layers'"),
        ("lm.scored_tokens", "lm.scored_tokens is now called lm.loss_tokens"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, message):
    result = sllm(key)
    assert result.exit_code == 2 and message in result.stderr
