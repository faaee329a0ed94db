"""The bytes of shards: the same for any number of workers, and after kills, damage and other configurations."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.storage import Folder
from jobs import inspect
from jobs import prepare as prepare_job
from jobs.prepare import prepare
from pipeline.errors import ShardError
from pipeline.shards.reading import open_shards
from tests.jobs.corpus import ROWS, config_for, content, write_rows


def test_the_bytes_are_a_function_of_work_unit_and_configuration(made: Path, tmp_path: Path) -> None:
    expected = content(made)
    assert sum(name.endswith(".arrow") for name in expected) > 6
    assert "progress" not in "".join(expected)
    for num_workers in (2, 7):
        output = tmp_path / f"again{num_workers}"
        prepare(config_for(tmp_path, f"prepare.num_workers={num_workers}"), str(output))
        assert content(output) == expected


def test_ray_workers_write_the_same_bytes(made: Path, tmp_path: Path, ray_cluster: str) -> None:
    for num_workers in (1, 2, 7):
        output = tmp_path / f"ray{num_workers}"
        prepare(config_for(tmp_path, "launcher=ray", f"prepare.num_workers={num_workers}"), str(output))
        assert content(output) == content(made)


SOAK = int(os.environ.get("SLLM_SOAK_KILLS", "4"))
"""Kills in a row; `make soak` sets more."""


def test_after_kills_at_random_moments_the_bytes_are_the_same(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"id": f"d{i}", "text": ROWS[i % 60]["text"] * 40} for i in range(900)])
    overrides = ("prepare.work_unit_bytes=20000", "data.max_rejected_fraction=0", "tokenizer.vocab_size=600")
    prepare(config_for(tmp_path, *overrides), str(tmp_path / "whole"))
    output = tmp_path / "killed"
    config = config_for(tmp_path, *overrides, "prepare.num_workers=2", f"output={output}")
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    program = (
        "import sys; from jobs.prepare import prepare; from pipeline.config import load_config\n"
        "if __name__ == '__main__': prepare(c := load_config(sys.argv[1]), c.output)"
    )
    (tmp_path / "program.py").write_text(program)
    chance = random.Random(7)
    root = str(Path(prepare_job.__file__).parents[1])
    for _ in range(SOAK):
        process = subprocess.Popen(
            [sys.executable, tmp_path / "program.py", tmp_path / "config.yaml"],
            env={**os.environ, "PYTHONPATH": root},
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.5, 4))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    prepare(config, str(output))
    assert content(output) == content(tmp_path / "whole")


class Killed(BaseException):
    """As if the process ended here."""


def _half_written(path: Path) -> list[Path]:
    """As this version leaves a file when it is killed, and as an earlier one did."""
    return [path.with_name(f".{path.name}.1-7.partial"), path.with_name(f"{path.name}.1.partial")]


@pytest.mark.parametrize("writes", range(0, 30, 3))
def test_after_a_kill_at_any_write_a_rerun_completes_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: Any, writes: int
) -> None:
    output, left, write = tmp_path / "killed", [writes], Folder.write

    def dying(folder: Folder, name: str, data: Any) -> None:
        if left[0] == 0:
            for left_over in _half_written(output / name):
                left_over.parent.mkdir(parents=True, exist_ok=True)
                left_over.write_bytes(bytes(data)[:10])
            raise Killed
        left[0] -= 1
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", dying)
    with pytest.raises(Killed):
        prepare(config_for(tmp_path), str(output))
    monkeypatch.setattr(Folder, "write", write)
    before = {file: file.stat().st_mtime_ns for file in output.glob("*.arrow")}
    with pytest.raises(ShardError, match=r"unfinished|no shards"):
        open_shards(str(output))
    prepare(config_for(tmp_path), str(output))
    assert content(output) == content(made)
    done = sum(before[file] == file.stat().st_mtime_ns for file in before)
    assert done >= len(before) - 2  # at most the shards of one work unit are made again


def test_after_a_kill_between_manifest_and_cleaning_up_a_rerun_cleans_up(
    made: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def dying(folder: Folder, names: Any) -> None:
        if (tmp_path / "killed" / "manifest.json").exists():
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", dying)
        with pytest.raises(Killed):
            prepare(config_for(tmp_path), str(tmp_path / "killed"))
    assert (tmp_path / "killed" / "progress").is_dir()
    prepare(config_for(tmp_path), str(tmp_path / "killed"))
    assert content(tmp_path / "killed") == content(made)


def test_a_rerun_makes_only_what_is_missing_or_damaged(made: Path, tmp_path: Path) -> None:
    expected = content(made)
    (made / "train-00001.arrow").unlink()
    damaged = bytearray(expected["train-00003.arrow"])
    damaged[99] ^= 1
    (made / "train-00003.arrow").write_bytes(damaged)
    before = {file: file.stat().st_mtime_ns for file in made.glob("*.arrow")}
    prepare(config_for(tmp_path), str(made))
    assert content(made) == expected
    changed = {file.name for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert changed <= {"dev-00001.arrow", "train-00003.arrow", "dev-00003.arrow"}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("prepare.max_sentence_tokens=7", "max_sentence_tokens: 64 there, 7 now"),
        ("data.dev_fraction=0.5", "data.dev_fraction: 0.2 there, 0.5 now"),
        ("tokenizer.vocab_size=290", "tokenizer_digest"),
        ("segmenter.name=reference_v1", "segmenter.name: learned_v2 there, reference_v1 now"),
    ],
)
def test_shards_of_something_else_are_never_mixed(
    made: Path, tmp_path: Path, override: str, named: str
) -> None:
    before = content(made)
    with pytest.raises(ShardError, match=named):
        prepare(config_for(tmp_path, override), str(made))
    assert content(made) == before
    prepare(config_for(tmp_path, override, "prepare.overwrite=true"), str(made))
    prepare(config_for(tmp_path, override), str(tmp_path / "fresh"))
    assert content(made) == content(tmp_path / "fresh")


def test_a_changed_input_is_noticed_also_in_the_middle(made: Path, tmp_path: Path) -> None:
    manifest = (made / "manifest.json").read_bytes()
    write_rows(tmp_path, [*ROWS, {"id": "new", "text": "A new one."}])
    with pytest.raises(ShardError, match=r"input a\.jsonl\.gz: sha256"):
        prepare(config_for(tmp_path), str(made))
    assert (made / "manifest.json").read_bytes() == manifest


def test_own_ids_that_look_made_are_ids_all_the_same(tmp_path: Path) -> None:
    """Within a work unit and over several, and after a rerun that reads them from shards."""
    made_id = "a.jsonl.gz#5@0123456789ab"
    rows = [*ROWS[:2], {"id": made_id, "text": "One."}, {"id": made_id, "text": "Two."}, *ROWS[2:]]
    write_rows(tmp_path, [*rows, {"id": made_id, "text": "Three."}])
    config = config_for(tmp_path, "data.max_rejected_fraction=0.5")
    prepare(config, str(tmp_path / "out"))
    rejected = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["doc_id"]) for row in rejected] == [("duplicate id", made_id)] * 2
    expected = content(tmp_path / "out")
    last = sorted((tmp_path / "out").glob("*.arrow"), key=lambda file: file.name.partition("-")[2])[-1]
    last.unlink()
    prepare(config, str(tmp_path / "out"))
    assert content(tmp_path / "out") == expected


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_a_finished_job_makes_damaged_shards_anew_and_reuses_whole_ones(
    tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice of `sllm inspect`: run `sllm prepare` again."""
    write_rows(tmp_path, ROWS)
    output = tmp_path / "out"
    config = config_for(tmp_path, f"output={output}", f"tracking.uri={tracking_uri}")
    first = prepare_job.run(config)
    expected = content(output)
    prepare_job.run(config)
    assert "reuse" in capsys.readouterr().err
    _flip(output / "train-00002.arrow", -999)
    with pytest.raises(ShardError, match=r"train-00002\.arrow in .*: checksum differs.*prepare` again"):
        inspect.show(str(output), samples=0)
    before = {file: file.stat().st_mtime_ns for file in output.glob("*.arrow")}
    assert prepare_job.run(config).run_id == first.run_id
    said = capsys.readouterr().err
    assert "train-00002.arrow in" in said and "damaged, and made anew" in said and "reuse" not in said
    assert f"continues MLflow run {first.run_id}" in said
    inspect.show(str(output), samples=0)
    changed = {file.name for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert changed <= {"train-00002.arrow", "dev-00002.arrow"}
    del expected["job.json"]
    assert {name: data for name, data in content(output).items() if name != "job.json"} == expected


def test_a_damaged_tokenizer_is_made_anew_and_a_damaged_manifest_is_named(
    tmp_path: Path, tracking_uri: str
) -> None:
    write_rows(tmp_path, ROWS)
    output = tmp_path / "out"
    config = config_for(tmp_path, f"output={output}", f"tracking.uri={tracking_uri}")
    prepare_job.run(config)
    tokenizer = (output / "tokenizer/tokenizer.json").read_bytes()
    (output / "tokenizer/tokenizer.json").write_bytes(tokenizer.replace(b'"model"', b'"modem"'))
    prepare_job.run(config)
    assert (output / "tokenizer/tokenizer.json").read_bytes() == tokenizer
    manifest = (output / "manifest.json").read_bytes()
    _flip(output / "manifest.json", manifest.index(b'"sha256": "') + 11)
    with pytest.raises(ShardError, match=r"manifest\.json is damaged or changed.*--force"):
        prepare_job.run(config)
    prepare_job.run(config, force=True)
    assert (output / "manifest.json").read_bytes() == manifest
