import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import Config, load_config, override, undone
from pipeline.errors import ConfigError


def test_defaults_file_and_overrides_in_that_order(tmp_path):
    (tmp_path / "c.yaml").write_text("precision: bf16\nvae: {num_layers: 2, num_heads: 8}\n")
    config = load_config(str(tmp_path / "c.yaml"), ["vae.num_layers=3", "data.inputs=[a.txt, 'b c.txt']"])
    assert (config.precision, config.vae.num_layers, config.vae.num_heads) == ("bf16", 3, 8)
    assert config.data.inputs == ("a.txt", "b c.txt") and config.vae.train == Config().vae.train


def test_an_override_changes_one_section_though_an_alias_shares_it(tmp_path):
    (tmp_path / "c.yaml").write_text("lm: {train: &t {steps: 6}}\nvae: {train: *t}\n")
    config = load_config(str(tmp_path / "c.yaml"), ["vae.train.steps=8"])
    assert (config.lm.train.steps, config.vae.train.steps) == (6, 8)


def test_a_null_section_takes_an_override(tmp_path):
    (tmp_path / "c.yaml").write_text("vae:\n")
    assert load_config(str(tmp_path / "c.yaml"), ["vae.num_layers=4"]).vae.num_layers == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vae.num_layer=2", "nearest known is 'vae.num_layers'"),
        ("va.num_layers=2", "nearest known is 'vae'"),
        ("vae.num_layers=many", r"vae\.num_layers.*'many'"),
        ("vae.num_layers=25", r"vae\.num_layers.*less than or equal to 24"),
        ("precision.bits=16", r"precision.*fp32"),
        ("vae.num_layers", "must look like"),
        ("vae.num_layers=[", "not valid YAML"),
        ("vae.train.steps.x=1", "steps"),
    ],
)
def test_a_bad_override_names_its_key(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize("content", ["- a list\n", "a: [", "\xff\xfe"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(str(tmp_path / "c.yaml"))


def test_it_survives_yaml():
    tree = Config().model_dump(mode="json")
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(tree))) == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("deepspeed.config={train_batch_size: 8}", "train_batch_size is set by train.micro_batch_tokens"),
        ("deepspeed.config={gradient_accumulation_steps: 2}", "set by train.micro_batches_per_step"),
        (
            "deepspeed.config={zero_optimization: {stage: 3}}",
            "zero_optimization.stage is set by deepspeed.zero_stage",
        ),
        ("deepspeed.config={fp16: {enabled: true}}", "fp16.enabled is set by precision"),
        ("deepspeed.config=no/such.json", "cannot read the file"),
        ("deepspeed={zero_stage: 0, offload_optimizer: cpu}", "needs zero_stage 1, 2 or 3"),
        ("deepspeed={zero_stage: 2, offload_parameters: cpu}", "offload_parameters needs zero_stage=3"),
        ("deepspeed={zero_stage: 2, offload_optimizer: nvme, nvme_path: /nvme}", "needs zero_stage=3"),
        ("deepspeed={zero_stage: 3, offload_optimizer: nvme}", "needs nvme_path=FOLDER"),
    ],
)
def test_deepspeed_options_that_contradict_are_refused(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, [override])


def test_a_deepspeed_configuration_may_be_a_file(tmp_path):
    (tmp_path / "ds.json").write_text(
        '{"zero_optimization": {"overlap_comm": true}, "train_batch_size": "auto"}'
    )
    config = load_config(None, [f"deepspeed.config={tmp_path / 'ds.json'}"])
    assert config.deepspeed.config["zero_optimization"] == {"overlap_comm": True}
    (tmp_path / "ds.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_config(None, [f"deepspeed.config={tmp_path / 'ds.json'}"])


PRESETS = sorted((Path(__file__).parents[3] / "jobs" / "presets").rglob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_so_do_their_variants(preset):
    config = load_config(str(preset))
    for variant in config.compare.variants.values():
        assert override(config, variant.overrides) != config or not variant.overrides


def test_overrides_of_a_tree_leave_the_rest():
    config = load_config(None, ["vae.num_layers=2"])
    changed = override(config, {"vae.num_heads": 2, "trunk.config.num_hidden_layers": 7})
    assert (changed.vae.num_layers, changed.vae.num_heads) == (2, 2)
    assert changed.trunk.config["num_hidden_layers"] == 7 and changed.lm == config.lm
    with pytest.raises(ConfigError, match=r"nearest known is 'vae\.num_heads'"):
        override(config, {"vae.num_head": 2})


def test_an_unknown_key_inside_a_named_section_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"variants\.a\.titel.*compare\.variants\.a\.title"):
        load_config(None, ["compare.variants={a: {titel: x, stages: {train-lm: 1}}}"])


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("data.inputs=a.txt", "data.inputs", ("a.txt",)),
        ("data.inputs=*.jsonl", "data.inputs", ("*.jsonl",)),
        ("data.dev_inputs='b c.txt'", "data.dev_inputs", ("b c.txt",)),
        ("data.inputs=", "data.inputs", ()),
        ("compare.only=lm-4", "compare.only", ("lm-4",)),
        ("run.jobs=prepare", "run.jobs", ("prepare",)),
        ("stream.weights=3", "stream.weights", (3.0,)),
        ("compare.batch_sizes=4", "compare.batch_sizes", (4,)),
        ("data=", "data.inputs", ()),
        ("lm={train: }", "lm.train.steps", 1000),
        ("trunk.config=", "trunk.config.model_type", "llama"),
        ("shards=a", "shards", "a"),
        ("stream.weights=null", "stream.weights", None),
    ],
)
def test_what_people_write_is_taken(override, key, value):
    found = load_config(None, [override]).model_dump()
    for name in key.split("."):
        found = found[name]
    assert found == value


def test_files_that_hold_little_are_taken(tmp_path):
    path = tmp_path / "c.yaml"
    for content in ("", "# nothing yet\n", "---\n", "data:\nlm:\n  train:\n", "\ufeffdata: {}\n"):
        path.write_text(content, encoding="utf-8")
        assert load_config(str(path)) == Config()
    path.write_text("data: {inputs: a.txt, filters: {name: length}}\n")
    data = load_config(str(path)).data
    assert data.inputs == ("a.txt",) and data.filters[0].name == "length"


@pytest.mark.parametrize("content", ["[]", "0", "false", "''"])
def test_an_empty_value_is_no_empty_file(tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError, match="must hold a mapping of sections"):
        load_config(str(tmp_path / "c.yaml"))


def test_a_section_given_twice_names_file_and_lines(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {inputs: [a]}\nvae: {}\ndata: {text_field: body}\n")
    with pytest.raises(
        ConfigError, match=r"c\.yaml: the key 'data' is given twice in one mapping, lines 1 and 3"
    ):
        load_config(str(tmp_path / "c.yaml"))
    with pytest.raises(ConfigError, match=r"override 'lm.train=.*the key 'steps' is given twice"):
        load_config(None, ["lm.train={steps: 1, steps: 2}"])
    (tmp_path / "ds.json").write_text('{"fp16": {},\n "fp16": {}}')
    with pytest.raises(ConfigError, match=r"deepspeed\.config: .*the key 'fp16' is given twice"):
        load_config(None, [f"deepspeed.config={tmp_path / 'ds.json'}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jobs/presets",), "jobs/presets is a folder; name a YAML file in it: "),
        (("nowhere.yaml",), "there is no such file; without a file, begin with KEY=VALUE"),
        ((None, "lm.train.step"), "must look like lm.train.steps=..."),
        ((None, "c.yaml"), "one YAML file goes first"),
        ((None, "vae.num_layers=1.5"), "vae.num_layers must be a whole number (got 1.5)"),
        ((None, "data=5"), "data must be a section"),
        ((None, "vae.num_layers="), "vae.num_layers has no value"),
        ((None, "output=2024"), "output must be text, and 2024 is a number in YAML: quote it"),
        ((None, "output=yes"), "True is yes or no in YAML"),
        ((None, "data.filters=[{nam: length}]"), "unknown key 'data.filters.0.nam'; the nearest known is"),
        ((None, "shards=[[a]]"), "shards.0 must be text"),
        ((None, "shards=[a, $NO_SUCH]"), "the environment variable NO_SUCH is not set"),
        ((None, "launcher=x"), "launcher must be 'auto', 'ray' or 'local' (got 'x')"),
        ((None, "data.inputs=a #b"), "would be a comment"),
    ],
)
def test_errors_are_plain(arguments, message, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(arguments[0], arguments[1:])
    assert "Input should" not in str(caught.value) and "\n" not in str(caught.value)


def test_overrides_that_do_not_count_are_named():
    assert undone(["lm.train.steps=5", "vae.num_layers=2", "lm.train.steps=5"]) == []
    assert undone(["lm.train.steps=5", "lm.train.steps=6"]) == [
        "lm.train.steps=5 does not count: lm.train.steps=6 after it does"
    ]
    assert undone(["lm.train.steps=5", "lm={}"]) != [] and undone(["lm={}", "lm.train.steps=5"]) == []


@pytest.mark.parametrize(
    ("overrides", "blamed"),
    [
        (["vae.num_layers=many"], "override 'vae.num_layers=many': vae.num_layers must be a whole number"),
        (["lm={}", "vae.num_layer=1"], "override 'vae.num_layer=1': unknown key 'vae.num_layer'"),
        (["vae={num_layers: 0}"], "override 'vae={num_layers: 0}': vae.num_layers must"),
        (["data.inputs=[1]"], "override 'data.inputs=[1]': data.inputs.0 must be text"),
        (
            ["deepspeed.offload_parameters=cpu"],
            "override 'deepspeed.offload_parameters=cpu': deepspeed: offload",
        ),
    ],
)
def test_a_mistake_in_an_override_names_the_override_and_not_the_file(tmp_path, overrides, blamed):
    (tmp_path / "c.yaml").write_text("vae: {num_layers: 2}\ndeepspeed: {zero_stage: 2}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(blamed)}") as caught:
        load_config(str(tmp_path / "c.yaml"), overrides)
    assert "c.yaml" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("vae:\n  num_layers: 2\n  num_head: 4\n", 3),
        ("lm: {}\nvae: {num_heads: x}\n", 2),
        ("data:\n  filters:\n    - name: length\n    - name: nothing\n", 4),
        ("vae: &v\n  num_heads: x\n", 2),
        ("deepspeed:\n  zero_stage: 2\n  offload_parameters: cpu\n", 1),
    ],
)
def test_a_mistake_in_a_file_names_its_line_whatever_is_overridden(tmp_path, content, line):
    (tmp_path / "c.yaml").write_text(content)
    for overrides in ([], ["output=x", "deepspeed.nvme_path=/nvme", "vae.norm_first=true"]):
        with pytest.raises(ConfigError, match=rf"c\.yaml, line {line}: ") as caught:
            load_config(str(tmp_path / "c.yaml"), overrides)
        assert "override" not in str(caught.value)


def test_mistakes_in_file_and_override_are_both_named(tmp_path):
    (tmp_path / "c.yaml").write_text("lm: {}\nvae: {num_heads: x}\n")
    with pytest.raises(
        ConfigError, match=r"override 'lm\.context_tokens=x'.*; .*c\.yaml, line 2: vae\.num_heads"
    ):
        load_config(str(tmp_path / "c.yaml"), ["lm.context_tokens=x"])
