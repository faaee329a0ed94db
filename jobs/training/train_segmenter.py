"""`sllm train-segmenter`: the learned segmenter, from gold boundaries and raw text."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config, SegmenterTrainConfig, StreamConfig
from pipeline.errors import ConfigError
from pipeline.fetched import local_file
from pipeline.lineage import Artifact, JobRecord, artifact_of
from segmenters.learned.weights_file import SHIPPED_WEIGHTS

if TYPE_CHECKING:
    from segmenters.learned.training.train import SegmenterTraining
    from segmenters.learned.training.train_correction import CorrectionTraining

_NOT_ON_THE_CARD = {"gold", "raw", "licence_note"}
"""Settings that are part of the text of the model card."""
_OF_V1 = {
    "segmenter",
    "start_from",
    "dropout",
    "word_dropout",
    "weight_decay",
}
"""Settings that `learned_v2` does not have."""
_UNMARKED = ("unpunctuated", "ideographs")
"""Networks for unpunctuated text."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on the files of `config.segmenter_training` into the folder `config.output`, as one MLflow run.

    The folder has the weights, for `--option weights=...` of the segmenter, and a model card. Raises `ConfigError`
    where gold files or output are not named.
    """
    from infra.storage import filled_at_end
    from infra.tracking.run import ActiveRun
    from jobs.runner.execution import run_job
    from jobs.runner.output.folder import artifact_at, output_folder
    from jobs.runner.progress import TrainingProgress

    settings = config.segmenter_training
    if config.output is None or not settings.gold:
        raise ConfigError("train-segmenter needs segmenter_training.gold=[FILE, ...] and output=FOLDER")
    if settings.segmenter == "learned_v2" and settings.start_from is not None:
        raise ConfigError(
            "segmenter_training.start_from adapts weights of learned_v1; leave it out, or set segmenter: learned_v1"
        )
    output = output_folder(config.output, "train-segmenter needs output=FOLDER")
    inputs: list[Artifact] = [artifact_at(source.path) for source in (*settings.gold, *settings.raw)]
    if settings.start_from is not None:
        shipped = settings.start_from == "shipped"
        inputs.append(artifact_of(SHIPPED_WEIGHTS) if shipped else artifact_at(settings.start_from))

    def body(run: ActiveRun) -> dict[str, float]:
        def report(metrics: dict[str, float]) -> None:
            step = int(metrics["step"])
            figures = {key: value for key, value in metrics.items() if key != "step"}
            run.log_metrics(figures, step=step)
            network = next(iter(figures)).partition("/")[0]  # first one is trained, then the other
            if network not in shown:
                bars.close()
                steps = settings.unpunctuated_steps if network in _UNMARKED else settings.steps
                shown[network] = bars.enter_context(TrainingProgress(f"train-segmenter, {network}", steps))
            named = ((key.partition("/")[2].replace("_", " "), value) for key, value in figures.items())
            shown[network].show(step, ", ".join(f"{name} {value:.4g}" for name, value in named))

        hidden = _NOT_ON_THE_CARD | (_OF_V1 if settings.segmenter == "learned_v2" else {"segmenter"})
        on_card = settings.model_dump(exclude=hidden)
        shown: dict[str, TrainingProgress] = {}
        with contextlib.ExitStack() as bars, filled_at_end(run.output) as folder:
            training = correction_of if settings.segmenter == "learned_v2" else training_of
            return training(settings, config.stream.cache).train(folder, on_card, report)

    return run_job(
        "train-segmenter",
        config,
        sections=["segmenter_training"],
        inputs=inputs,
        output=output,
        output_kind="model",
        body=body,
        force=force,
    )


def training_of(settings: SegmenterTrainConfig, cache: str = StreamConfig().cache) -> "SegmenterTraining":
    """The training that these options of the configuration describe; `cache`: folder of the copies of files at
    URLs."""
    from segmenters.learned.training.punctuated import PunctuatedSettings
    from segmenters.learned.training.train import SegmenterTraining
    from segmenters.learned.training.unpunctuated import UnpunctuatedSettings

    return SegmenterTraining(
        gold={local_file(source.path, cache): source.weight for source in settings.gold},
        raw={local_file(source.path, cache): source.weight for source in settings.raw},
        punctuated=PunctuatedSettings(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            dropout=settings.dropout,
            word_dropout=settings.word_dropout,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
        ),
        unpunctuated=UnpunctuatedSettings(
            steps=settings.unpunctuated_steps,
            learning_rate=settings.unpunctuated_learning_rate,
            seed=settings.seed,
        ),
        start_from=_start_path(settings.start_from, cache),
        held_out_fraction=settings.held_out_fraction,
        num_threads=settings.num_threads,
        seed=settings.seed,
        licence_note=settings.licence_note,
    )


def correction_of(settings: SegmenterTrainConfig, cache: str = StreamConfig().cache) -> "CorrectionTraining":
    """The training of `learned_v2` that these options describe; `cache` as in `training_of`."""
    from segmenters.learned.training.correction import CorrectionSettings
    from segmenters.learned.training.ideographs import IdeographSettings
    from segmenters.learned.training.train_correction import CorrectionTraining

    return CorrectionTraining(
        gold={local_file(source.path, cache): source.weight for source in settings.gold},
        raw={local_file(source.path, cache): source.weight for source in settings.raw},
        settings=CorrectionSettings(
            steps=settings.steps, learning_rate=settings.learning_rate, seed=settings.seed
        ),
        ideographs=IdeographSettings(
            steps=settings.unpunctuated_steps,
            learning_rate=settings.unpunctuated_learning_rate,
            seed=settings.seed,
        ),
        held_out_fraction=settings.held_out_fraction,
        num_threads=settings.num_threads,
        seed=settings.seed,
        licence_note=settings.licence_note,
    )


def _start_path(name: str | None, cache: str) -> Path | None:
    return (
        SHIPPED_WEIGHTS if name == "shipped" else Path(local_file(name, cache)) if name is not None else None
    )
