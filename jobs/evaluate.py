"""`sllm evaluate`: the same dev documents under every model, in bits per byte."""

from functools import partial

from infra.model_workers import start_evaluators
from infra.tracking.run import ActiveRun
from jobs.reports.evaluation import print_report, read_report, write_report
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output_folder import output_folder
from jobs.runner.progress import WorkProgress
from jobs.runner.training import model_artifact, shards_artifact
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate import evaluate
from pipeline.lineage import JobRecord
from pipeline.models.saved import check_saved_models
from pipeline.shards.reading import open_shards


def run(config: Config, force: bool = False) -> JobRecord:
    """Evaluate the models that `config.models` names on the dev split of `config.shards`; print a table.

    Raises `ConfigError` where models or shards are not named.
    """
    folder = config.shards
    if not isinstance(folder, str) or config.output is None:
        raise ConfigError(
            "evaluate needs one shards=FOLDER, output=FOLDER, and models.lm, models.vae or models.sllm"
        )
    output_folder(config.output, "evaluate needs output=FOLDER")
    models = [config.models.lm, config.models.vae, config.models.sllm]
    inputs = [
        shards_artifact(folder, config.stream),
        *(model_artifact(path) for path in models if path is not None),
    ]

    def check() -> None:
        check_saved_models(config, open_shards(folder, config.stream))

    def body(run: ActiveRun) -> dict[str, float]:
        shards = open_shards(folder, config.stream)
        with WorkProgress("evaluate", "tokens") as progress:
            figures = evaluate(
                config,
                shards,
                partial(start_evaluators, config, shards),
                lambda line: say(f"evaluate: {line} ..."),
                progress.begin,
            )
        write_report(figures, run.output)
        return {
            f"{model}/{name}": value
            for model, of_model in figures.items()
            for name, value in of_model.items()
            if not isinstance(value, str)
        }

    record = run_job(
        "evaluate",
        config,
        sections=["evaluate", "lm.context_tokens"],
        inputs=inputs,
        output=config.output,
        output_kind="report",
        body=body,
        beside=["shards", "models", "launcher", "ray"],
        check=check,
        force=force,
    )
    print_report(read_report(config.output))
    return record
