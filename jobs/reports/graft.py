"""The table and the plot of `sllm graft`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.tracking.curves import Curve
from jobs.reports.figure import closed_as
from pipeline.evaluation.evaluate import Figures

_ROWS = {
    "unigram": "unigram",
    "lm": "the pretrained model",
    "lm_with_cache": "the pretrained model, with a continuous cache",
    "sllm": "grafted",
    "sllm_with_cache": "grafted, with a continuous cache",
    "sllm_latents_zeroed": "grafted, predicted latents zeroed",
    "sllm_latents_shuffled": "grafted, predicted latents of another document",
}
_CONTROLS = {
    "fresh-trunk": "control: trunk from fresh weights, trained whole",
    "fresh-decoder": "control: decoder from fresh weights",
}
_POINTS = 12
"""Rows of the table of a curve."""


@dataclass(frozen=True)
class Training:
    """How a model was trained: its stages in their order, and the metrics of each."""

    name: str
    stages: Sequence[str]
    curves: Mapping[str, Mapping[str, Curve]]

    def points(self) -> Iterator[tuple[str, float, float, float]]:
        """Stage, tokens seen so far in all stages, loss on the dev split (nats per document token), and share of its
        tokens that were the likeliest."""
        before = 0.0
        for stage in self.stages:
            curves = self.curves[stage]
            tokens, loss, hits = (
                dict(curves.get(name, []))
                for name in ("train/tokens", "dev/nll_per_token", "dev/token_accuracy")
            )
            for step, value in loss.items():
                if step in tokens:
                    yield stage, before + tokens[step], value, hits.get(step, math.nan)
            before += max(tokens.values(), default=0.0)


def markdown(
    figures: Mapping[str, Figures], trainings: Sequence[Training], setting: Mapping[str, Any]
) -> str:
    """Tables: bits per byte of all models, reconstruction, and loss over tokens."""
    grafted, *controls = figures.items()
    of_model = grafted[1]["lm"]["bits_per_byte"]
    rows = [(_ROWS[name], found, None) for name, found in grafted[1].items() if name in _ROWS]
    rows = [
        (title, found, setting["tokens"][grafted[0]] if title.startswith("grafted") else None)
        for title, found, _ in rows
    ]
    rows += [(_CONTROLS[name], found["sllm"], setting["tokens"][name]) for name, found in controls]
    vae = grafted[1]["vae"]
    lines = [
        "# Graft",
        "",
        f"A SentenceVAE grafted onto `{setting['model'].replace('`', '')}`; its decoder's layers start from "
        f"{setting['decoder']}. Scored on {setting['documents']:,} whole documents of the dev split. The pretrained "
        f"model has windows of {setting['context_tokens']:,} tokens that overlap by half.",
        "",
        "| model | parameters | training tokens | bits per byte | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {title} | {_whole(found.get('parameters'))} | {_whole(tokens)} | {found['bits_per_byte']:.4f} | "
            f"{found['bits_per_byte'] / of_model:.3f} |"
            for title, found, tokens in rows
        ),
        "",
        f"The SentenceVAE alone, given the sentence's own latent, reconstructs {vae['token_accuracy']:.2%} of tokens "
        f"and {vae['exact_sentences']:.2%} of {int(vae['sentences']):,} sentences.",
        "",
        "## Over training tokens",
        "",
        "Loss on the first micro-batches of the dev split, all of a sentence's tokens, EOS and (of an SLLM) the "
        "decision to go on; of the SentenceVAE it is that of reconstruction.",
        "",
        "| model | stage | tokens | nats per token | bits per byte, about | tokens that were the likeliest |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for each in trainings:
        points = list(each.points())
        kept = points[:: max(len(points) // _POINTS, 1)]
        for stage, tokens, nats, hits in [*kept, *(points[-1:] if points[-1:] != kept[-1:] else [])]:
            bits = nats / math.log(2) * setting["tokens_per_byte"]
            lines.append(f"| {each.name} | {stage} | {tokens:,.0f} | {nats:.3f} | {bits:.3f} | {hits:.1%} |")
    return "\n".join(lines) + "\n"


def plot(
    figures: Mapping[str, Figures], trainings: Sequence[Training], setting: Mapping[str, Any], form: str
) -> bytes:
    """Bits per byte of the dev split over training tokens of the SLLMs, beside those of the pretrained model. `form`:
    `png` or `svg`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, each in enumerate(trainings):
        points = [point for point in each.points() if not point[0].endswith("vae")]
        bits = [nats / math.log(2) * setting["tokens_per_byte"] for _, _, nats, _ in points]
        axis.plot([tokens for _, tokens, _, _ in points], bits, ".-", color=f"C{number}", label=each.name)
        axis.plot(
            setting["tokens"][each.name], figures[each.name]["sllm"]["bits_per_byte"], "^", color=f"C{number}"
        )
    first = next(iter(figures.values()))
    axis.axhline(first["lm"]["bits_per_byte"], linestyle=":", color="gray", label="the pretrained model")
    axis.set(xlabel="training tokens, all stages", ylabel="bits per byte (down is better)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return closed_as(figure, form)


def _whole(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"
