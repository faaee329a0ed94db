"""What is rendered fits the schemas of the programs that read it, our versions, and this repository."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.autoscaler._private.util import prepare_config, validate_config

from infra.deploy import image
from infra.deploy.rendering import render
from infra.deploy.settings import DeployConfig
from pipeline.config.tree import load_section
from pipeline.errors import ConfigError
from pipeline.redaction import redacted
from tests.infra.deploy.schemas import COMPOSE, KUBERAY

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "infra" / "deploy" / "example"
PINNED = dict(
    line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
RESOURCES = {"raycluster.yaml": "RayCluster", "rayjob.yaml": "RayJob", "raycronjob.yaml": "RayCronJob"}
SMALL = {"image": "r/sllm:1", "job": ["run", "demo"], "workers": [{"name": "cpu"}]}


def deployment(**changes) -> DeployConfig:
    return DeployConfig.model_validate({**SMALL, **changes})


def full(*overrides: str) -> DeployConfig:
    """The example, with all options."""
    return load_section(DeployConfig, str(EXAMPLE / "deploy.yaml"), list(overrides))


def cluster_of(resource: dict) -> dict:
    spec = resource["spec"]
    return spec.get("jobTemplate", spec).get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize(
    "config",
    [
        full(),
        full("service_account=storage", "storage_claim=null", "retries=0"),
        deployment(schedule="0 3 * * *", queue="night"),
    ],
    ids=["example", "buckets", "queue"],
)
def test_kuberay_resources_have_only_fields_of_the_crd(config, name):
    resource = yaml.safe_load(render(config)[name])
    jsonschema.validate(resource, KUBERAY[RESOURCES[name]])
    spec = cluster_of(resource)
    assert spec["authOptions"] == {"mode": "token"} and spec["rayVersion"] == PINNED["ray"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec.get("enableInTreeAutoscaling", False) == config.scales
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            one["name"] for one in pod["volumes"]
        }
        assert [one["name"] for one in container["env"]] == [*config.environment, *config.secrets]


def test_the_schema_refuses_what_kuberay_would():
    """The table can fail: an unknown field, a missing one, a wrong type, two ways to delete."""
    good = yaml.safe_load(render(full())["rayjob.yaml"])
    for change in (
        {"minReplicas": 1},
        {"rayClusterSpec": {}},
        {"backoffLimit": "2"},
        {"shutdownAfterJobFinishes": True},
    ):
        bad = {**good, "spec": {**good["spec"], **change}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, KUBERAY["RayJob"])


def test_a_job_is_retried_and_its_cluster_goes():
    spec = yaml.safe_load(render(full("retries=3", "keep_seconds=60"))["rayjob.yaml"])["spec"]
    assert spec["backoffLimit"] == 3
    rules = spec["deletionStrategy"]["deletionRules"]
    assert [rule["policy"] for rule in rules] == ["DeleteCluster"] * 2
    assert {rule["condition"]["ttlSeconds"] for rule in rules} == {60}
    queued = yaml.safe_load(render(deployment(queue="night", keep_seconds=60))["rayjob.yaml"])
    assert queued["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "night"}
    assert queued["spec"]["shutdownAfterJobFinishes"] and queued["spec"]["ttlSecondsAfterFinished"] == 60


def test_gpus_tolerations_and_replicas_reach_their_group():
    gpu, cpu = yaml.safe_load(render(full())["raycluster.yaml"])["spec"]["workerGroupSpecs"]
    container = gpu["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "8"}
    assert gpu["template"]["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert (gpu["replicas"], gpu["minReplicas"], gpu["maxReplicas"]) == (2, 2, 2)
    assert (cpu["replicas"], cpu["minReplicas"], cpu["maxReplicas"]) == (0, 0, 8)
    assert "tolerations" not in cpu["template"]["spec"]


def test_without_a_schedule_there_is_no_cron_job():
    assert "raycronjob.yaml" not in render(deployment())


def test_the_launcher_file_is_one_that_ray_takes():
    tree = yaml.safe_load(render(full())["machines.yaml"])
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = prepare_config(tree)  # what `ray up` does before it validates
    jsonschema.validate(config, schema)
    validate_config(config)
    assert config["max_workers"] == len(full().machines.workers)
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)


def test_the_compose_file_fits_its_schema_and_holds_no_password():
    tree = yaml.safe_load(render(full())["compose.yaml"])
    jsonschema.validate(tree, COMPOSE)
    services = tree["services"]
    assert services["mlflow"]["image"] == services["job"]["image"] == full().image
    (command,) = services["mlflow"]["command"][2:]
    assert "postgresql+psycopg://mlflow@postgres/mlflow" in command  # no password in it
    by_name = {name: f"${{{name}:?set it here}}" for name in full().secrets}
    assert by_name.items() <= services["job"]["environment"].items()
    assert "postgres" in image.EXTRAS and any("psycopg" in name for name in PINNED)


STUBS = {
    "scontrol": "printf 'n1\\nn2\\nn3\\n'",
    "srun": 'echo "srun $*" >> "$LOG"\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
    "hostname": "echo 10.0.0.7 fe80::1",
    "ray": 'echo "ray $*" >> "$LOG"\n[ "$1" = health-check ] || exec sleep 30',
    "sllm": "trap 'kill $!; sleep 1; exit 7' TERM\n"  # what it leaves running would keep the output open
    # A job outlasts the start of the workers, which is in the background.
    'for _ in {1..500}; do grep -q -e "--exclude=n1" "$LOG" && break; sleep 0.01; done\n'
    'echo "sllm $* at $RAY_ADDRESS" >> "$LOG"\n'
    'ls -l "$RAY_AUTH_TOKEN_PATH" >> "$LOG"\n[ -z "$WAITS" ] || { kill -TERM "$PPID"; sleep 20 & wait; }\n'
    'exit "${CODE:-0}"',
}


@pytest.fixture
def slurm(tmp_path):
    """Runs the batch script with stand-ins of Slurm's, Ray's and our commands -> exit code, errors, what was called."""
    folder = tmp_path / "environment" / "bin"
    folder.mkdir(parents=True)
    for name, text in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "activate").write_text(f"export PATH={folder}:$PATH\n")

    def run(config: DeployConfig, **environment: str) -> tuple[int, str, list[str]]:
        script, log = tmp_path / "job.sbatch", tmp_path / "log"
        script.write_text(render(config)["job.sbatch"])
        subprocess.run(["bash", "-n", script], check=True)
        log.write_text("")
        variables = {
            **os.environ,
            "HOME": str(tmp_path),
            "LOG": str(log),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_JOB_NUM_NODES": str(config.workers[0].max_replicas),
            **environment,
        }
        done = subprocess.run(["bash", script], env=variables, capture_output=True, text=True, timeout=60)
        assert not list(tmp_path.glob(".sllm-token*"))
        return done.returncode, done.stderr, log.read_text().splitlines()

    return run


def test_the_slurm_script_starts_a_cluster_with_a_token_and_ends_with_the_jobs_code(slurm, tmp_path):
    changes = {
        "workers": [{"name": "gpu", "gpus": 4, "min_replicas": 3, "max_replicas": 3}],
        "slurm": {"environment_folder": str(tmp_path / "environment"), "partition": "a100"},
        "secrets": {"MINE": "a/b"},
        "job": ["run", "demo", "output=/data/it's here"],
    }
    config = deployment(**changes)
    code, errors, _ = slurm(config)
    assert code == 2 and errors == "set MINE before sbatch\n"
    code, errors, called = slurm(config, MINE="x", CODE="3")
    assert code == 3, errors
    head = next(line for line in called if line.startswith("ray start --head"))
    assert "--node-ip-address=10.0.0.7 --port=24711" in head and "--num-gpus=4" in head
    assert any(
        line.startswith("srun --overlap --nodes=2 --ntasks=2 --exclude=n1 ray start") for line in called
    )
    assert "sllm run demo output=/data/it's here at 10.0.0.7:24711" in called
    assert any(line.startswith("-rw------- ") for line in called)  # the token
    code, errors, _ = slurm(
        config, MINE="x", WAITS="1"
    )  # Slurm's signal reaches the job, which ends in its own time
    assert code == 7, errors
    text = render(config)["job.sbatch"]
    assert "#SBATCH --partition=a100\n" in text and "#SBATCH --gpus-per-node=4\n" in text


def test_the_image_has_our_packages_versions_and_extras_and_is_not_run_as_root():
    files = render(deployment())
    dockerfile, kept = files["Dockerfile"], files["Dockerfile.dockerignore"].split()
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    assert set(image.PACKAGES) == packages
    for name in (*image.PACKAGES, *image.FILES):
        assert (
            f"!{name}" in kept
            and (REPOSITORY / name).exists()
            and re.search(rf"^COPY .*{name}", dockerfile, re.M)
        )
    assert set(image.EXTRAS) <= PROJECT["optional-dependencies"].keys()
    assert "-c constraints.txt" in dockerfile and "ENV SLLM_GIT_COMMIT=$SLLM_GIT_COMMIT" in dockerfile
    assert [line for line in dockerfile.splitlines() if line.startswith("USER ")] == ["USER 1000"]
    assert {"VARIANT", "TORCH_INDEX_URL", "SLLM_GIT_COMMIT"} <= set(
        re.findall(r"^ARG (\w+)=", dockerfile, re.M)
    )


def test_the_example_is_what_is_rendered():
    files = {path.name: path.read_text() for path in EXAMPLE.iterdir() if path.name != "deploy.yaml"}
    again = "sllm deploy render infra/deploy/example/deploy.yaml --output infra/deploy/example"
    assert files == render(full()), f"run `{again}`"
    assert full().image.endswith(f":{PROJECT['version']}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("environment={AWS_SECRET_ACCESS_KEY: hunter2}", "is a secret, and is not written into files"),
        ("environment.MLFLOW_TRACKING_URI=https://me:hunter2@mlflow", "is a secret"),
        ("job=[run, demo, 'data.inputs=[https://me:hunter2@h/a]']", "an argument holds a secret"),
        ("secrets={A: hunter2}", r"secrets\.A"),
        ("secrets={MLFLOW_TRACKING_URI: a/b}", "is in secrets and in environment"),
        ("queue=gpus", "Kueue takes no clusters that scale"),
        ("workers=[{name: a, min_replicas: 2}]", "min_replicas must be at most max_replicas"),
        ("workers=[{name: a}, {name: a}]", "the same name"),
        ("image='r; rm -rf /'", "image"),
        ("name=Sllm_1", "name"),
        ("schedule=daily", "schedule"),
        ("worker=[]", "nearest known is 'workers'"),
    ],
)
def test_a_bad_deployment_is_refused(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        full(override)
    shown = redacted(str(caught.value))  # as the console prints it
    assert "hunter2" not in shown or override.startswith("secrets")  # a name was expected there


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@settings(max_examples=40)
@given(value=TEXTS, argument=TEXTS)
def test_any_text_arrives_as_it_is(value, argument):
    """Through YAML, the shell and Compose's own variables."""
    try:
        config = deployment(environment={"MINE": value}, job=["run", "demo", f"output={argument}"])
    except ValueError:
        return  # it looks like a secret
    files = render(config)
    job = yaml.safe_load(files["rayjob.yaml"])["spec"]
    assert shlex.split(job["entrypoint"]) == ["sllm", *config.job]
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "MINE", "value": value} in head["env"]
    lines = files["job.sbatch"].split("\n")
    assert shlex.split(next(line for line in lines if line.startswith("export MINE="))) == [
        "export",
        f"MINE={value}",
    ]
    assert shlex.split(next(line for line in lines if line.startswith("sllm ")))[1:-1] == list(config.job)
    service = yaml.safe_load(files["compose.yaml"])["services"]["job"]
    assert service["environment"]["MINE"].replace("$$", "$") == value
    assert service["command"][-1].replace("$$", "$") == config.job[-1]
