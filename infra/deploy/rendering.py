"""All files of a deployment, from its configuration."""

from collections.abc import Callable
from typing import Any

import yaml

from infra.deploy import image
from infra.deploy.compose import compose_file
from infra.deploy.kuberay import ray_cluster, ray_cron_job, ray_job
from infra.deploy.machines import launcher_file
from infra.deploy.settings import DeployConfig
from infra.deploy.slurm import batch_script

_Make = Callable[[DeployConfig], dict[str, Any]]
_YAML: dict[str, tuple[_Make, str]] = {
    "raycluster.yaml": (
        ray_cluster,
        """\
A standing cluster to submit to (KubeRay 1.5.1 or newer, which makes the token and hands it to every node):
  kubectl apply -f raycluster.yaml
  kubectl -n {namespace} port-forward service/{name}-head-svc 8265 &
  export RAY_AUTH_TOKEN=$(kubectl -n {namespace} get secret {name} -o jsonpath='{{.data.auth_token}}' | base64 -d)
  sllm run CONFIG --submit http://127.0.0.1:8265""",
    ),
    "rayjob.yaml": (
        ray_job,
        """\
One job with a cluster of its own, which ends with it (KubeRay 1.6; in 1.5 its gate RayJobDeletionPolicy is off):
  kubectl apply -f rayjob.yaml && kubectl -n {namespace} get rayjob {name} --watch
A job that was interrupted goes on where it was, in its own MLflow run.""",
    ),
    "raycronjob.yaml": (
        ray_cron_job,
        """\
The job again and again (KubeRay 1.6 with its gate RayCronJob on):
  kubectl apply -f raycronjob.yaml""",
    ),
    "machines.yaml": (
        launcher_file,
        """\
Ray's cluster launcher over machines that SSH reaches:
  ray get-auth-token --generate          # once; it is copied to each machine
  ray up machines.yaml
  ray dashboard machines.yaml &          # forwards port 8265
  sllm run CONFIG --submit http://127.0.0.1:8265""",
    ),
    "compose.yaml": (
        compose_file,
        """\
MLflow on PostgreSQL, and the job on this machine:
  (umask 077; openssl rand -hex 32 > postgres_password.txt)
  docker compose up --detach             # MLflow at http://127.0.0.1:5000, for this machine alone
  docker compose run job""",
    ),
}


def render(config: DeployConfig) -> dict[str, str]:
    """The text of each file, by its name."""
    files = {}
    for name, (make, comment) in _YAML.items():
        if name != "raycronjob.yaml" or config.schedule is not None:
            lines = comment.format(name=config.name, namespace=config.namespace).splitlines()
            head = "".join(f"# {line}\n" for line in lines)
            files[name] = head + yaml.dump(make(config), Dumper=_WithoutAliases, sort_keys=False, width=110)
    files["job.sbatch"] = batch_script(config)
    files["Dockerfile"] = image.DOCKERFILE
    files["Dockerfile.dockerignore"] = image.DOCKERIGNORE
    return files


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
