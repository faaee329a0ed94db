"""A job replaces the files that it wrote, and leaves all others in its output folder."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, TrainingError
from pipeline.lineage import artifact_of, write_record


def test_force_replaces_what_the_job_wrote_and_nothing_else(job):
    first = job()
    (job.output / "mine.txt").write_text("a person's")
    (job.output / "checkpoints").mkdir()
    seen = []

    def look(run):
        seen.extend(path.name for path in Path(run.output).iterdir())
        return {}

    second = job("lm.train.steps=5", force=True, body=look)
    assert sorted(seen) == [".lock", ".tracking.jsonl", "job.json", "mine.txt"]
    assert second.run_id != first.run_id


def test_an_input_inside_the_output_is_no_part_of_it(job):
    """`prepare` puts the documentation corpus into its own output, then reads it."""
    corpus = job.output / "corpus" / "docs.jsonl"
    corpus.parent.mkdir(parents=True)
    corpus.write_text("{}")
    inputs = [artifact_of(corpus)]
    record = job(inputs=inputs)
    assert record.files == {"model.safetensors": 1}
    job("lm.train.steps=5", inputs=inputs, force=True)
    assert corpus.is_file()


def test_two_jobs_never_write_to_one_folder(job):
    def meanwhile(run):
        with pytest.raises(ConfigError, match="another job is writing to"):
            job()
        return {}

    job(body=meanwhile)
    assert job.calls == []


def test_an_output_that_cannot_be_written_is_an_error_of_one_line(job, tmp_path):
    job.output.write_text("a file")
    with pytest.raises(ConfigError, match="out"):
        job()


def disk(folder):
    """All that is below a folder, links not followed."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and path.name not in ("job.json", ".lock"):
            found[name] = path.read_bytes()
    return found


def test_what_was_there_before_is_refused_then_left_and_never_listed(job, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "model.safetensors").write_text("precious")
    job.output.mkdir()
    (job.output / "notes.txt").write_text("mine")
    (job.output / "link").symlink_to("../precious")
    (job.output / "here").symlink_to(".")
    (job.output / "there").symlink_to(".")
    before = disk(job.output)
    with pytest.raises(
        ConfigError, match=r"holds here, link, notes\.txt, .*which no job of ours wrote.*--force"
    ):
        job()
    assert disk(job.output) == before and not job.calls and not (job.output / "job.json").exists()
    assert job(force=True).files == {"model.safetensors": 1}
    assert job() and len(job.calls) == 1  # the same job again is not asked to say so again
    record = job("lm.train.steps=5", force=True)
    assert record.files == {"model.safetensors": 2}
    assert disk(job.output) == {**before, "model.safetensors": b"ww"}
    assert (tmp_path / "precious" / "model.safetensors").read_text() == "precious"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_over_or_through_a_link(job, tmp_path, force):
    (tmp_path / "precious").write_text("precious")
    job.output.mkdir()
    (job.output / "model.safetensors").symlink_to("../precious")
    with pytest.raises(
        ConfigError, match=r"holds model\.safetensors, which no job of ours wrote.*move it away"
    ):
        job(force=force)
    (job.output / "model.safetensors").unlink()
    (job.output / "model.safetensors").write_text("of another program")
    with pytest.raises(ConfigError, match="move it away"):
        job(force=force)
    assert (job.output / "model.safetensors").read_text() == "of another program"
    assert (tmp_path / "precious").read_text() == "precious"


def test_an_old_record_that_lists_too_much_removes_no_more(job):
    """Records once listed all that lay in the folder, also through links."""
    record = job()
    (job.output / "notes.txt").write_text("mine")
    (job.output.parent / "precious").mkdir()
    (job.output.parent / "precious" / "config.json").write_text("{}")
    (job.output / "link").symlink_to("../precious")
    files = {**record.files, "notes.txt": 4, "link/config.json": 2}
    outside = {**files, "../precious/config.json": 2}  # no version listed such a name
    write_record(job.output, dataclasses.replace(record, files=outside))
    with pytest.raises(ConfigError, match="is not in the folder"):
        job("lm.train.steps=5", force=True)
    write_record(job.output, dataclasses.replace(record, files=files))
    job("lm.train.steps=5", force=True)
    assert (job.output / "notes.txt").exists() and (job.output.parent / "precious" / "config.json").exists()


def test_after_an_interruption_force_leaves_what_was_put_there_since(job):
    def fail(run):
        (job.output / "model.safetensors").write_text("half")
        (job.output / "checkpoints" / "step-000000001").mkdir(parents=True)
        (job.output / "checkpoints" / "step-000000001" / "training_state.json").write_text("{}")
        raise TrainingError("diverged")

    with pytest.raises(TrainingError):
        job(body=fail)
    (job.output / "notes.txt").write_text("mine")
    (job.output / "checkpoints" / "best").mkdir()
    (job.output / "checkpoints" / "best" / "readme").write_text("mine")
    seen = []
    job("lm.train.steps=5", force=True, body=lambda run: seen.extend(disk(job.output)) or {})
    assert seen == [".tracking.jsonl", "checkpoints/best/readme", "notes.txt"]


def test_checkpoints_of_another_run_are_not_resumed_from(job):
    (job.output / "checkpoints" / "step-000000001").mkdir(parents=True)
    (job.output / "checkpoints" / "step-000000001" / "training_state.json").write_text("{}")
    for force in (False, True):
        with pytest.raises(ConfigError, match="checkpoints/step-000000001"):
            job(force=force)


def test_an_output_may_be_a_link_to_a_folder(job, tmp_path):
    (tmp_path / "disk").mkdir()
    job.output.symlink_to("disk")
    assert job().files == {"model.safetensors": 1}
    job("lm.train.steps=5", force=True)
    assert job.output.is_symlink() and (tmp_path / "disk" / "model.safetensors").read_text() == "ww"
