"""The table of verbs, and what follows from it."""

import inspect
import typing
from pathlib import Path

import pytest

from jobs.run import wire
from jobs.verbs import STEPS, VERBS, markdown, steps_of
from pipeline.config import ModelsConfig, load_config
from pipeline.config.comparison import TrainingVerb
from pipeline.errors import ConfigError
from pipeline.training.task import TrainingJob

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_each_verb_has_a_file_a_help_and_examples(verb):
    assert verb.help.endswith(".") and "\n" not in verb.help and verb.reads and verb.writes
    assert verb.examples and all(example.split()[:2] == ["sllm", verb.name] for example in verb.examples)
    module = verb.load()
    if verb.has_own_arguments:
        assert callable(getattr(module, verb.function))
    else:
        assert list(inspect.signature(module.run).parameters) == ["config", "force"]


def test_each_file_of_the_folder_is_a_verb():
    files = {path.stem for path in (REPOSITORY / "jobs").glob("*.py")} - {
        "__init__",
        "__main__",
        "verb",
        "verbs",
    }
    modules = {verb.module_name.removeprefix("jobs.") for verb in VERBS.values()}
    assert files == {name for name in modules if "." not in name}  # the others are in folders
    assert len(files) <= 13


def test_the_readme_has_the_table():
    assert markdown() in (REPOSITORY / "README.md").read_text(encoding="utf-8"), f"put in:\n{markdown()}"


def test_compare_and_training_know_the_verbs_that_train_models():
    models = tuple(name for name, step in STEPS.items() if step.kind == "model")
    assert models == typing.get_args(TrainingVerb) == typing.get_args(TrainingJob)


def test_models_are_wired_to_the_keys_of_their_folders():
    models = {step.folder for step in STEPS.values() if step.kind == "model"}
    assert models == ModelsConfig.model_fields.keys()
    config = load_config(None, ["output=r", "models.vae=given", "run.jobs=[prepare, train-lm, train-sllm]"])
    assert wire(config, "train-lm").models.model_dump() == {"lm": None, "vae": "given", "sllm": "r/sllm"}
    wired = wire(config, "train-sllm")
    assert wired.models.model_dump() == {"lm": "r/lm", "vae": "given", "sllm": None}
    assert (wired.shards, wired.output) == ("r/shards", "r/sllm")


def test_the_path_is_all_jobs_but_compare():
    assert list(steps_of([])) == [name for name in STEPS if name != "compare"]
    assert list(steps_of(["compare", "prepare"])) == ["compare", "prepare"]
    with pytest.raises(ConfigError, match=r"run\.jobs has no job 'train_lm': did you mean train-lm\?"):
        steps_of(["train_lm"])
