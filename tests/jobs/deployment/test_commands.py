"""`sllm deploy`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import cli

REPOSITORY = Path(__file__).parents[3]
SMALL = ["image=r/sllm:1", "workers=[{name: cpu}]"]


def deploy(*arguments: str):
    return CliRunner().invoke(cli.app, ["deploy", *arguments])


def test_render_writes_the_files_and_names_them(tmp_path):
    result = deploy("render", *SMALL, "job=[run, demo, output=/data/x]", "--output", str(tmp_path / "made"))
    assert result.exit_code == 0, result.stderr
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"rayjob.yaml", "raycluster.yaml", "job.sbatch", "compose.yaml", "Dockerfile"} <= made
    assert all(f"wrote {tmp_path / 'made' / name}\n" in result.stderr for name in made)
    assert "raycronjob.yaml" not in made


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("[runn, demo]", "'runn' is no job; known are prepare, "),
        ("[status]", "'status' is no job"),
        ("[run]", "has no configuration"),
        ("[run, dmeo]", "did you mean demo?"),
        ("[run, demo, lm.train.step=5]", "lm.train.steps"),
        ("[run, /data/config.yaml, lm.train.step=5]", "lm.train.steps"),
    ],
)
def test_a_job_that_cannot_start_is_refused(tmp_path, job, message):
    result = deploy("render", *SMALL, f"job={job}", "--output", str(tmp_path / "made"))
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_a_file_that_only_the_cluster_has_is_allowed(tmp_path):
    job = "job=[train-lm, /data/config.yaml, lm.train.steps=5, --force]"
    assert deploy("render", *SMALL, job, "--output", str(tmp_path)).exit_code == 0


def test_the_page_is_up_to_date():
    assert deploy("keys").stdout == (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
