"""The deployment files agree with the code: versions, token authentication, commands that parse."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.testing import CliRunner

from jobs.cli import app

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "infra" / "deploy"
PINNED = dict(
    line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
)
VERSION = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)


def read(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def cluster_spec(name):
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_kuberay_clusters_ask_for_a_token_and_run_our_versions(name):
    spec = cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == PINNED["ray"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert VERSION is not None
    for pod in (group["template"]["spec"] for group in pods):
        (container,) = pod["containers"]
        assert container["image"].endswith(f"/sllm:{VERSION[1]}")
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_jobs_command_is_one_of_ours(tmp_path):
    python, dash_m, jobs, verb, config, *overrides = shlex.split(
        read("kuberay-job.yaml")["spec"]["entrypoint"]
    )
    assert (python, dash_m, jobs, config) == ("python", "-m", "jobs", "/data/config.yaml")
    result = CliRunner().invoke(app, [verb, *overrides, "--dry-run"])
    assert result.exit_code == 0, result.stderr


def test_the_launcher_file_is_one_that_ray_takes():
    config = prepare_config(read("machines.yaml"))
    validate_config(config)
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)


def test_the_image_holds_every_package():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for package in ("segmenters", "pipeline", "infra", "jobs"):
        assert f"COPY {package} {package}\n" in dockerfile and f"!{package}" in kept
