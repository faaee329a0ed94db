"""`sllm deploy render`: from one small configuration to the files of KubeRay, Slurm, Compose and others."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from infra.deploy.rendering import render as rendered
from infra.deploy.settings import DeployConfig
from jobs.runner import presets
from jobs.runner.arguments import Overrides, config_and_overrides
from jobs.runner.console import answering_errors, say
from jobs.verbs import VERBS
from pipeline.config import load_config
from pipeline.config.documentation import all_keys, markdown
from pipeline.config.paths import PATH
from pipeline.config.tree import load_section
from pipeline.errors import ConfigError


def render(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="YAML file with the deployment, or the first KEY=VALUE.")
    ],
    overrides: Overrides = None,
    output: Annotated[
        str, typer.Option("--output", metavar="FOLDER", help="Folder that the files are written to."), PATH
    ] = ".",
) -> None:
    """Write the files that start a job elsewhere: KubeRay's RayJob, RayCluster and (with a schedule) RayCronJob, a file
    for Ray's cluster launcher, a Slurm script, a Compose file with MLflow, and a Dockerfile. They replace earlier ones.

    \b
    Examples:
      sllm deploy render deploy.yaml --output deployment
      sllm deploy render image=REGISTRY/sllm:1 job='[run, demo, output=s3://bucket/first]' workers='[{name: cpu}]'
    """
    path, changes = config_and_overrides(config, overrides)
    deployment = load_section(DeployConfig, path, changes)
    check_job(deployment.job)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered(deployment).items():
        (folder / name).write_text(text, encoding="utf-8")
        say(f"wrote {folder / name}")


def keys() -> None:
    """Print the keys of a deployment's configuration as the page docs/deployment.md."""
    print(markdown(all_keys(DeployConfig), _INTRODUCTION), end="")


_INTRODUCTION = """# Deployments

`sllm deploy render CONFIG --output FOLDER` writes the files that start a job elsewhere from one small configuration:
`raycluster.yaml`, `rayjob.yaml` and `raycronjob.yaml` for KubeRay, `machines.yaml` for Ray's cluster launcher,
`job.sbatch` for Slurm, `compose.yaml` with MLflow on PostgreSQL, and a `Dockerfile`. The head of each file says how it
is used. `infra/deploy/example` has a configuration and what is made of it. The YAML files are
tested against the fields of KubeRay's and Compose's schemas that they use and against Ray's own schema, the Slurm
script with stand-ins of Slurm's commands; none of them has been run on Kubernetes, Slurm or Docker yet.

No file holds a secret: variables in `secrets` come from Kubernetes secrets, elsewhere from the environment. These are
all keys; `sllm deploy keys > docs/deployment.md` writes this page."""


def check_job(job: tuple[str, ...]) -> None:
    """Raise `ConfigError` for a job that cannot start: an unknown verb, a bad override, a preset that is not there.

    A file that is not on this machine may be in the image or on the volume; then its overrides alone are checked.
    """
    verb, *arguments = job
    known = [name for name, one in VERBS.items() if one.can_be_submitted]
    if verb not in known:
        raise ConfigError(f"job: {verb!r} is no job; known are {', '.join(known)}")
    arguments = [argument for argument in arguments if argument not in ("--force", "--json")]
    if not arguments:
        raise ConfigError(f"job: {shlex.join(job)} has no configuration; name a preset, a file or KEY=VALUE")
    path, changes = config_and_overrides(arguments[0], arguments[1:])
    if path is not None:
        file = presets.preset_or_file(path)
        path = file if Path(file).is_file() else None
    try:
        load_config(path, changes)
    except ConfigError as error:
        raise ConfigError(f"job: {error}") from error


app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command()(answering_errors(render))
app.command()(answering_errors(keys))
