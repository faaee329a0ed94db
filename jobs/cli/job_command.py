"""The command that all jobs share: CONFIG, overrides, `--dry-run`, `--force`, `--submit`, `--json`."""

import dataclasses
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jobs.runner import presets
from jobs.runner.arguments import AsJson, ConfigPath, Force, Overrides, config_and_overrides, loaded
from jobs.runner.completion import complete_config
from jobs.runner.console import only_result_on_stdout, say
from jobs.verb import TextOption, Verb
from jobs.verbs import steps_of
from pipeline.config import Config
from pipeline.config.paths import is_mlflow_model, is_url, resolved_path
from pipeline.errors import ConfigError, ModelError
from pipeline.lineage import JobRecord

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the whole resolved configuration and stop.")]
Submit = Annotated[
    str | None,
    typer.Option(
        "--submit",
        metavar="ADDRESS",
        help="Run as a Ray job on this cluster (its dashboard's URL; auto: what RAY_API_SERVER_ADDRESS, else "
        "RAY_ADDRESS names) and follow its log; the same job, if it has not ended, is followed and not started again. "
        "Ctrl-C stops what was started here; to leave it running, add --detach or close the terminal.",
    ),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach", help="With --submit: print the submission id and leave the job running (see `sllm logs`)."
    ),
]
ModelOrConfig = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|CONFIG", help="Folder of a model, or a YAML file.", autocompletion=complete_config
    ),
]


@dataclasses.dataclass(frozen=True)
class _Options:
    dry_run: bool
    force: bool
    submit: str | None
    detach: bool
    as_json: bool


def job_command(verb: Verb) -> Callable[..., None]:
    """The function whose parameters are the arguments of this job."""

    def command(
        config: ConfigPath,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
        submit: Submit = None,
        detach: Detach = False,
        as_json: AsJson = False,
    ) -> None:
        _start(verb, config, overrides, None, _Options(dry_run, force, submit, detach, as_json))

    if verb.text_option is None:
        return command
    option: TextOption = verb.text_option
    Text = Annotated[str | None, typer.Option(option.name, help=option.help)]

    def command_with_text(
        config: ModelOrConfig,
        overrides: Overrides = None,
        text: Text = None,
        dry_run: DryRun = False,
        force: Force = False,
        submit: Submit = None,
        detach: Detach = False,
        as_json: AsJson = False,
    ) -> None:
        _start(verb, config, overrides, text, _Options(dry_run, force, submit, detach, as_json))

    return command_with_text


def _start(verb: Verb, first: str, rest: list[str] | None, text: str | None, options: _Options) -> None:
    config_path, overrides = config_and_overrides(first, rest)
    if verb.model_key is not None and config_path is not None:
        folder = Path(resolved_path(config_path))
        is_yaml = folder.suffix in (".yaml", ".yml", ".json")
        is_named = is_mlflow_model(config_path) or (is_url(config_path) and not is_yaml)
        if folder.is_dir() or is_named:
            overrides = [f"{verb.model_key}={_quoted(config_path)}", *overrides]
            config_path = None
        elif not folder.exists() and not is_yaml and config_path not in presets.names():
            raise ModelError(
                f"there is no model at {config_path}: name the folder of a model, or a YAML file, or begin with "
                f"{verb.model_key}=FOLDER"
            )
    if verb.text_option is not None and text is not None:
        overrides.append(f"{verb.text_option.key}={_quoted(text)}")
    _run(verb, config_path, overrides, options)


def _quoted(text: str) -> str:
    """The text as a YAML string."""
    return json.dumps(text, ensure_ascii=False)


def _run(verb: Verb, config_path: str | None, overrides: list[str], options: _Options) -> None:
    if options.detach and options.submit is None:
        raise ConfigError("--detach goes with --submit ADDRESS")
    config = loaded(config_path, overrides)
    _check(verb, config)
    if options.dry_run:
        _show_config(config)
        if options.submit is not None:
            _show_submitted_files()
        return
    if options.submit is not None:
        from infra.submission.client import address_or_default
        from infra.submission.submit import submit

        address = address_or_default(options.submit, say)
        file = None if config_path is None else presets.preset_or_file(config_path)
        flags = [name for name, wanted in (("--force", options.force), ("--json", options.as_json)) if wanted]
        raise typer.Exit(
            submit(address, verb.name, file, overrides, config, say, flags, detach=options.detach)
        )
    _check_environment(config)
    with only_result_on_stdout(options.as_json) as show:
        record: JobRecord = verb.load().run(config, force=options.force)
        show(dataclasses.asdict(record))


def _check(verb: Verb, config: Config) -> None:
    """Raise `ConfigError` for mistakes that can be found before anything is sent, read or written."""
    steps_of(config.run.jobs)
    if config.output is not None and config.output.startswith("memory://"):
        raise ConfigError(
            f"output={config.output} is deleted when the command ends: name a folder, or another URL"
        )


def _check_environment(config: Config) -> None:
    """Raise `ConfigError` for a variable that the configuration names and this process lacks."""
    if missing := [name for name in config.ray.environment if not os.environ.get(name)]:
        raise ConfigError(
            f"ray.environment: {', '.join(missing)} not set on {socket.gethostname()}: set it there; on a cluster, in "
            "the environment in which each node starts Ray (on Kubernetes from a secret)"
        )


def _show_config(config: Config) -> None:
    import yaml

    from pipeline.printable import printable
    from pipeline.redaction import redacted_tree

    shown = yaml.safe_dump(redacted_tree(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    print(printable(shown), end="")


def _show_submitted_files() -> None:
    """The files of the working folder that `--submit` would send, as comments below the configuration."""
    from infra.submission.submitted_files import submitted_files
    from pipeline.printable import printable

    files = submitted_files(Path.cwd())
    print(
        printable(f"# {len(files)} files of {Path.cwd()}") + f" would be sent, {sum(files.values()):,} bytes:"
    )
    for name, size in files.items():
        print(printable(f"# {size:>12,}  {name}"))
    print("# and the configuration above, with ${NAME} in place of secrets")
