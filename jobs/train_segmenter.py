"""`sllm train-segmenter`: the learned segmenter, from gold boundaries and raw text."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config, SegmenterTrainConfig
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord, artifact_of
from segmenters.learned.networks import FIRST_WORD, word_rows
from segmenters.learned.segmenter import Learned
from segmenters.learned.training.augmentation import mixed, stripped
from segmenters.learned.training.examples import Example, pieces, read_gold, read_raw
from segmenters.learned.weights_file import SHIPPED_WEIGHTS, load_weights, save_weights
from segmenters.scoring import score

WEIGHTS_NAME = "segmenter.safetensors"
CARD_NAME = "MODEL_CARD.md"
_SHIFTS = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1)
"""Log-odds that are tried, on texts held out, for places far from any mark."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on the files of `config.segmenter_training` into the folder `config.output`, as one MLflow run.

    It holds the weights, for `--option weights=...` of `learned_v1`, and a model card.
    """
    from infra.mlflow_run import ActiveRun
    from jobs.runner.execution import run_job
    from jobs.runner.output_folder import output_folder

    settings = config.segmenter_training
    if config.output is None or not settings.gold:
        raise ConfigError("train-segmenter needs segmenter_training.gold=[FILE, ...] and output=FOLDER")
    output = Path(output_folder(config.output, "train-segmenter needs output=FOLDER"))
    inputs: list[Artifact] = [artifact_of(source.path) for source in (*settings.gold, *settings.raw)]
    if settings.start_from is not None:
        inputs.append(artifact_of(_start_path(settings.start_from)))

    def body(run: ActiveRun) -> dict[str, float]:
        def report(metrics: dict[str, float]) -> None:
            run.log_metrics(
                {key: value for key, value in metrics.items() if key != "step"}, step=int(metrics["step"])
            )
            print("  ".join(f"{key} {value:.4g}" for key, value in metrics.items()), flush=True)

        return train(settings, output, report)

    return run_job(
        "train-segmenter",
        config,
        sections=["segmenter_training"],
        inputs=inputs,
        output=config.output,
        output_kind="model",
        body=body,
        force=force,
    )


def train(
    settings: SegmenterTrainConfig, output: Path, report: Callable[[dict[str, float]], None]
) -> dict[str, float]:
    """Train, and write weights and card into the folder `output`; returns F1 on the texts held out.

    In one process, without Ray or MLflow.
    """
    import torch

    rng = random.Random(settings.seed)
    gold, held_out = _divided(settings, rng)
    raw = {source.path: list(read_raw(Path(source.path))) for source in settings.raw}
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    tensors, sizes = _trained(settings, gold, raw, rng, report)
    file = output / WEIGHTS_NAME
    hard = {path: [stripped(text, rng) for text in texts] for path, texts in held_out.items()}
    everything_hard = [text for texts in hard.values() for text in texts]

    def f1_at(shift: float) -> float:
        save_weights(file, tensors, {**sizes, "name": Learned.name, "unmarked_shift": str(shift)})
        load_weights.cache_clear()
        return score(Learned(weights=str(file)), everything_hard).f1

    best_shift = max(_SHIFTS, key=f1_at)
    f1_at(best_shift)  # leaves the file with this one

    segmenter = Learned(weights=str(file))
    scores: dict[str, float] = {}
    for path, texts in held_out.items():
        name = Path(path).name.split(".")[0]
        scores[f"held_out/{name}/f1"] = score(segmenter, texts).f1
        scores[f"held_out/{name}-stripped/f1"] = score(segmenter, hard[path]).f1
    used = {path: sum(len(text.text) for text in texts) for path, texts in {**gold, **raw}.items()}
    (output / CARD_NAME).write_text(model_card(settings, used, scores, file), encoding="utf-8")
    return scores


def _trained(
    settings: SegmenterTrainConfig,
    gold: dict[str, list[Example]],
    raw: dict[str, list[Example]],
    rng: random.Random,
    report: Callable[[dict[str, float]], None],
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Both networks and their vocabulary, as a weights file names them, and the size of the window."""
    from segmenters.learned.training.features import features_of, neighbour_vectors, vocabulary
    from segmenters.learned.training.punctuated import PunctuatedSettings, train_punctuated
    from segmenters.learned.training.unpunctuated import UnpunctuatedSettings, train_unpunctuated

    weights = {source.path: source.weight for source in (*settings.gold, *settings.raw)}
    gold_parts, raw_parts = _sampled(gold, weights, rng), _sampled(raw, weights, rng)
    everything = [text for texts in (*gold.values(), *raw.values()) for text in texts]
    word_W = np.concatenate([features_of(text).word_W for text in everything])
    start = load_weights(_start_path(settings.start_from)) if settings.start_from is not None else None
    check_V = vocabulary([word_W], start.check_V if start else None)
    rows_W = np.where(word_W > 0, word_rows(word_W, check_V), 0)
    unpunctuated_settings = UnpunctuatedSettings(
        steps=settings.unpunctuated_steps,
        learning_rate=settings.unpunctuated_learning_rate,
        seed=settings.seed,
    )
    vectors = neighbour_vectors(rows_W, len(check_V) + FIRST_WORD, unpunctuated_settings.width, settings.seed)
    punctuated_settings = PunctuatedSettings(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        dropout=settings.dropout,
        word_dropout=settings.word_dropout,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
    )
    punctuated = train_punctuated(
        mixed(gold_parts, raw_parts, settings.seed),
        punctuated_settings,
        check_V,
        start.punctuated if start else None,
        vectors,
        report,
    )
    unpunctuated = train_unpunctuated(
        gold_parts,
        raw_parts,
        unpunctuated_settings,
        check_V,
        start.unpunctuated if start else None,
        vectors,
        report,
    )
    sizes = {"before": str(punctuated_settings.before), "after": str(punctuated_settings.after)}
    return {"word.check": check_V, **punctuated.tensors(), **unpunctuated.tensors()}, sizes


def _divided(
    settings: SegmenterTrainConfig, rng: random.Random
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """By gold file the texts to train on, and those held out (at least one of each, where there are two)."""
    gold: dict[str, list[Example]] = {}
    held_out: dict[str, list[Example]] = {}
    for source in settings.gold:
        texts = list(read_gold(Path(source.path)))
        rng.shuffle(texts)
        count = min(max(round(settings.held_out_fraction * len(texts)), 1), len(texts) - 1)
        held_out[source.path], gold[source.path] = texts[:count], texts[count:]
    return gold, held_out


def _sampled(texts: dict[str, list[Example]], weights: dict[str, float], rng: random.Random) -> list[Example]:
    """Parts of the texts, each as often as the weight of its file says, on average."""
    parts = []
    for path, examples in texts.items():
        for part in (part for example in examples for part in pieces(example)):
            parts += [part] * (int(weights[path]) + (rng.random() < weights[path] % 1))
    return parts


def _start_path(name: str) -> Path:
    return SHIPPED_WEIGHTS if name == "shipped" else Path(name)


def model_card(
    settings: SegmenterTrainConfig, characters: dict[str, int], scores: dict[str, float], weights: Path
) -> str:
    """What a reader must know of the weights, in Markdown: data, licences, scores, settings."""
    files = "\n".join(f"| `{Path(path).name}` | {count:,} |" for path, count in characters.items())
    results = "\n".join(f"| {name.split('/')[1]} | {value:.4f} |" for name, value in scores.items())
    values = ", ".join(f"{key} {value}" for key, value in _plain(settings).items())
    return f"""# A sentence segmenter: learned_v1

{weights.stat().st_size:,} bytes, SHA-256 `{load_weights(weights).digest}`. It takes text
of any language, and says for each place how probable it is that a sentence ends there. How good it is on languages and
kinds of text that are not listed here, these scores do not say.

## Data

| file | characters trained on |
|---|---|
{files}

{settings.licence_note}

Each text was used as it is and made harder: without case, marks or line breaks, hard-wrapped, in upper case, with
unknown words, in letters of other scripts. Boundaries of raw text are those of the rule `punctuation_v1`.

## Scores

F1 on {settings.held_out_fraction:.0%} of the texts of each gold file, which were not trained on. `-stripped`: lower
case, no punctuation, no line breaks.

| held out from | F1 |
|---|---|
{results}

## Settings

{values}
"""


def _plain(settings: SegmenterTrainConfig) -> dict[str, object]:
    left_out = {"gold", "raw", "licence_note"}
    return {key: value for key, value in settings.model_dump().items() if key not in left_out}
