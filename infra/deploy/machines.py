"""The file of Ray's cluster launcher, for machines that SSH reaches."""

import shlex
from typing import Any

from infra.deploy.settings import DeployConfig

_TOKEN = "/home/ray/.ray/auth_token"  # noqa: S105 - where it lies, not what it is


def launcher_file(config: DeployConfig) -> dict[str, Any]:
    """What `ray up` takes. Secrets are taken from the environment of each machine's own shell."""
    machines, largest = config.machines, max(group.memory_gib for group in config.workers)
    variables = [f"--env {shlex.quote(f'{name}={value}')}" for name, value in config.environment.items()]
    variables += [f"--env {name}" for name in config.secrets]
    gpus = any(group.gpus for group in config.workers)
    start = "ulimit -n 65536; RAY_AUTH_MODE=token ray start"
    return {
        "cluster_name": config.name,
        "provider": {"type": "local", "head_ip": machines.head, "worker_ips": list(machines.workers)},
        "auth": {"ssh_user": machines.ssh_user},
        "docker": {
            "image": config.image,
            "container_name": config.name,
            "run_options": [
                f"--shm-size={max(1, largest // 2)}g",
                "--ulimit nofile=65536:65536",
                f"--volume {machines.shared_folder}:/data",
                *(["--gpus all"] if gpus else []),
                *variables,
            ],
        },
        "file_mounts": {_TOKEN: "~/.ray/auth_token"},
        "head_start_ray_commands": [
            "ray stop",
            f"{start} --head --port=6379 --num-cpus=0 --dashboard-host=127.0.0.1 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"{start} --address=$RAY_HEAD_IP:6379"],
    }
