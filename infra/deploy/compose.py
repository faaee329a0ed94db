"""A Compose file: an MLflow server on PostgreSQL, and the job on this machine."""

from typing import Any

from infra.deploy.settings import DeployConfig

_PASSWORD = "postgres_password"  # noqa: S105 - the name of the secret
_DATABASE = "mlflow"


def compose_file(config: DeployConfig) -> dict[str, Any]:
    """Services `postgres`, `mlflow` and, in the profile `job`, `job`. The password is in a file beside it."""
    # psycopg reads the password from the environment, so that it is in no argument and no URI.
    serve = (
        f"PGPASSWORD=$$(cat /run/secrets/{_PASSWORD}) exec mlflow server --host 0.0.0.0 --port 5000"
        f" --backend-store-uri postgresql+psycopg://{_DATABASE}@postgres/{_DATABASE}"
        " --artifacts-destination /artifacts --allowed-hosts mlflow:5000,localhost:5000,127.0.0.1:5000"
    )
    gpus = any(group.gpus for group in config.workers)
    devices = [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    health = f"pg_isready --username {_DATABASE} --dbname {_DATABASE}"
    job: dict[str, Any] = {
        "image": config.image,
        "profiles": ["job"],
        "command": ["sllm", *(argument.replace("$", "$$") for argument in config.job)],
        "environment": {
            **{name: value.replace("$", "$$") for name, value in config.environment.items()},
            **{name: f"${{{name}:?set it here}}" for name in config.secrets},
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        },
        "shm_size": f"{max(1, config.workers[0].memory_gib // 2)}g",
        "volumes": ["data:/data"],
        "depends_on": {"mlflow": {"condition": "service_started"}},
    }
    if gpus:
        job["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    return {
        "name": config.name,
        "services": {
            "postgres": {
                "image": "postgres:17",
                "restart": "unless-stopped",
                "environment": {
                    "POSTGRES_USER": _DATABASE,
                    "POSTGRES_DB": _DATABASE,
                    "POSTGRES_PASSWORD_FILE": f"/run/secrets/{_PASSWORD}",
                },
                "secrets": [_PASSWORD],
                "volumes": ["database:/var/lib/postgresql/data"],
                "healthcheck": {"test": ["CMD-SHELL", health], "interval": "5s", "retries": 20},
            },
            "mlflow": {
                "image": config.image,
                "restart": "unless-stopped",
                "command": ["sh", "-c", serve],
                "secrets": [_PASSWORD],
                "volumes": ["artifacts:/artifacts"],
                "ports": ["127.0.0.1:5000:5000"],
                "depends_on": {"postgres": {"condition": "service_healthy"}},
            },
            "job": job,
        },
        "secrets": {_PASSWORD: {"file": f"./{_PASSWORD}.txt"}},
        "volumes": {"database": {}, "artifacts": {}, "data": {}},
    }
