"""`sllm evaluate`: the same dev documents under every model, in bits per byte."""

import math
from functools import partial

from infra.model_workers import start_evaluators
from infra.registry.models import with_model_folders
from infra.tracking.run import ActiveRun
from jobs.reports.evaluation import print_report, read_report, write_report
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output.folder import output_folder
from jobs.runner.progress import WorkProgress
from jobs.runner.run_page.plots import by_position_plot
from jobs.runner.training import model_artifact, shards_artifact
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate import Figures, evaluate
from pipeline.lineage import JobRecord
from pipeline.models.saved import check_saved_models
from pipeline.shards.reading import open_shards


def run(config: Config, force: bool = False) -> JobRecord:
    """Evaluate the models that `config.models` names on the dev split of `config.shards`; print a table.

    Raises `ConfigError` where models or shards are not named.
    """
    config = with_model_folders(config)
    folder = config.shards
    if not isinstance(folder, str) or config.output is None:
        raise ConfigError(
            "evaluate needs one shards=FOLDER, output=FOLDER, and models.lm, models.vae or models.sllm"
        )
    output_folder(config.output, "evaluate needs output=FOLDER")
    data = shards_artifact(folder, config.stream)
    models = {name: model_artifact(path) for name, path in config.models if path is not None}

    def check() -> None:
        check_saved_models(config, open_shards(folder, config.stream))

    def body(run: ActiveRun) -> dict[str, float]:
        shards = open_shards(folder, config.stream)
        curves: dict[str, list[float]] = {}
        edges: list[int] = []

        def keep_curve(name: str, edges_of_bins: list[int], curve: list[float]) -> None:
            edges[:], curves[name] = edges_of_bins, curve

        with WorkProgress("evaluate", "tokens") as progress:
            figures = evaluate(
                config,
                shards,
                partial(start_evaluators, config, shards),
                lambda line: say(f"evaluate: {line} ..."),
                progress.begin,
                keep_curve,
            )
        _show_curves(run, edges, curves)
        write_report(figures, run.output)
        for name, model in models.items():
            run.log_model_metrics(model, data, _figures_of(name, figures))
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
        inputs=[data, *models.values()],
        output=config.output,
        output_kind="report",
        body=body,
        beside=["shards", "models", "launcher", "ray"],
        check=check,
        force=force,
    )
    print_report(read_report(config.output))
    return record


def _show_curves(run: ActiveRun, edges: list[int], curves: dict[str, list[float]]) -> None:
    """Bits per byte by position: a curve in MLflow whose steps are the ends of the bins (tokens), and a plot."""
    for index, end in enumerate(edges[1:]):
        values = {f"{name}/bits_per_byte_by_position": curve[index] for name, curve in curves.items()}
        if values := {name: value for name, value in values.items() if not math.isnan(value)}:
            run.log_metrics(values, step=end)
    if curves:
        run.log_text("plots/bits_per_byte_by_position.svg", by_position_plot(edges, curves))


def _figures_of(name: str, figures: Figures) -> dict[str, float]:
    """The figures of one model, those of its ablations below the name of the ablation."""
    found: dict[str, float] = {}
    for key, values in figures.items():
        if key == name or key.startswith(f"{name}_"):
            prefix = key.removeprefix(name).lstrip("_")
            for figure, value in values.items():
                if not isinstance(value, str):
                    found[f"{prefix}/{figure}" if prefix else figure] = value
    return found
