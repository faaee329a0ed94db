"""The tables of `sllm compare`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.comparison import DesignFigures, beyond_frontier
from pipeline.evaluation.controls.intervals import ratio_interval
from pipeline.evaluation.drafted_speed import DRAFTED_TOKENS

_LATENTS = {"zeroed": "zeroed", "shuffled": "of another document", "oracle": "of the sentence itself"}
"""Title of the column of each ablation."""


def markdown(designs: Sequence[DesignFigures], setting: Mapping[str, Any]) -> str:
    """Tables: all figures; effects of single changes; latents replaced; by position in the document."""
    base = next(each for each in designs if each.name == setting["baseline"])
    batches = [speed.batch for speed in base.speeds]
    cached = ", with a cache," if base.cached_bits_per_byte is not None else ""
    drafted = ", with drafts where these are faster" if any(each.drafted for each in designs) else ""
    lines = [
        "# Comparison",
        "",
        f"Each design was trained on {setting['tokens']:,} document tokens, all stages together, and evaluated on the "
        f"same documents. Speed is that of generation without a prompt, {setting['generated_tokens']} tokens per "
        f"document, with key/value caches in all models, which take turns; {setting['device']}, "
        f"{setting['threads']} thread(s), torch {setting['torch']}. "
        f"Ratios are bits per byte divided by those of: {base.title}. "
        f"A design is beyond the frontier if no token-level model is both as good{cached} and as fast{drafted}. "
        "Intervals are of 95 %, by a bootstrap over documents; the spread over seeds is not in them.",
        "",
        *_table(
            [
                "design", "parameters", "bits per byte", "ratio", "with a cache", "training tokens", "training TFLOP",
                *(f"tokens/s, batch {batch}" for batch in batches), "MFLOP per generated token",
                "bytes per token of context", "bytes of the window", "beyond the frontier",
            ],
            [
                [
                    each.title, f"{each.parameters:,}", _with_spread(each),
                    _ratio(each, base), "" if each.cached_bits_per_byte is None else f"{each.cached_bits_per_byte:.4f}",
                    f"{each.training_tokens:,.0f}",
                    f"{each.training_flops / 1e12:,.1f}",
                    *(f"{speed.tokens_per_second:,.0f}" for speed in each.speeds),
                    f"{each.generation_flops_per_token / 1e6:.2f}",
                    f"{each.context_bytes_per_token:,.0f}", f"{each.window_bytes:,.0f}",
                    _frontier(each, designs, batches),
                ]
                for each in designs
            ],
        ),
    ]  # fmt: skip
    if recomputed := [each.title for each in designs if not each.slides]:
        lines += [
            "",
            f"Positions are learned in: {'; '.join(recomputed)}. A cache cannot slide there, so when it is full the "
            "newer half is recomputed; speed and FLOPs of generation include this.",
        ]
    if lossy := setting.get("lossy_documents"):
        lines += [
            "",
            f"**Bits per byte mean nothing here**: the token ids of {lossy:,} documents of the dev split do not give "
            "the text back. Compare designs with each other only, not with those of another tokenizer.",
        ]
    if len(seeds := setting.get("seeds", ())) > 1:
        named = ", ".join(map(str, seeds))
        lines += ["", f"Bits per byte are the mean over the seeds {named}, with the standard deviation."]
    if any(each.cached_bits_per_byte is not None for each in designs):
        lines += [
            "",
            f"With a cache: a continuous cache (arXiv 1612.04426) of the last {setting['cache_tokens']:,} positions at "
            "test time; its two numbers are fitted on every other document and used on the rest. Generated "
            "tokens/s are those without it: it costs each model one product with the cached positions per token.",
        ]
    by_name = {each.name: each for each in designs}
    lines += [*_controls(by_name), *_drafted(by_name)]
    changed = [(each, by_name[each.changed_from]) for each in designs if each.changed_from in by_name]
    if changed:
        rows = [
            [
                each.title,
                before.title,
                f"{each.bits_per_byte - before.bits_per_byte:+.4f}",
                f"{each.bits_per_byte / before.bits_per_byte:.3f}",
            ]
            for each, before in changed
        ]
        lines += ["", "## One change at a time", ""]
        lines += _table(["design", "changed from", "bits per byte", "ratio"], rows)
    replaced = [each for each in designs if each.ablations]
    if replaced:
        kinds = list(dict.fromkeys(kind for each in replaced for kind in each.ablations))
        rows = [
            [
                each.title,
                f"{each.bits_per_byte:.4f}",
                *(f"{each.ablations[kind]:.4f}" if kind in each.ablations else "" for kind in kinds),
            ]
            for each in replaced
        ]
        lines += ["", "## The predicted latents replaced (bits per byte)", ""]
        lines += _table(["design", "predicted", *(_LATENTS[kind] for kind in kinds)], rows)
    lines += ["", "## Bits per byte by position in the document (tokens)", ""]
    edges = setting["position_edges"]
    spans = [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)]
    rows = [[each.title, *("" if math.isnan(x) else f"{x:.3f}" for x in each.curve)] for each in designs]
    lines += _table(["design", *spans], rows)
    return "\n".join(lines) + "\n"


def _with_spread(each: DesignFigures) -> str:
    if len(each.bits_by_seed) < 2:
        return f"{each.bits_per_byte:.4f}"
    return f"{each.bits_per_byte:.4f} ± {np.std(each.bits_by_seed, ddof=1):.4f}"


def _ratio(each: DesignFigures, base: DesignFigures, cached: bool = False) -> str:
    ours, theirs = (one.cached_nll_by_document if cached else one.nll_by_document for one in (each, base))
    if not ours or not theirs:
        return ""
    nll_N, base_N = np.array(ours), np.array(theirs)
    ratio = f"{nll_N.sum() / base_N.sum():.4f}"
    if each is base:
        return ratio
    low, high = ratio_interval(nll_N, base_N)
    return f"{ratio} ({low:.4f} to {high:.4f})"


def _controls(by_name: Mapping[str, DesignFigures]) -> list[str]:
    """Each sentence-level design over its controls; below 1 the design is better."""
    rows = [
        [
            each.title,
            control.title,
            f"{each.training_flops / control.training_flops:.2f}",
            _ratio(each, control),
            _ratio(each, control, cached=True),
        ]
        for each in by_name.values()
        for control in map(by_name.get, each.controls)
        if control is not None
    ]
    if not rows:
        return []
    head = [
        "design",
        "control",
        "FLOPs over the control's",
        "bits per byte over the control's",
        "both with a cache",
    ]
    return [
        *("", "## Controls", ""),
        "Below 1 the design is better than its control.",
        "",
        *_table(head, rows),
    ]


def _drafted(by_name: Mapping[str, DesignFigures]) -> list[str]:
    """Speed of a single document with lossless speculation beside that without."""
    rows = []
    for each in by_name.values():
        if each.drafted is not None:
            without = each.speed(1)
            small = by_name.get(each.drafted.drafts)
            rows.append(
                [
                    each.title,
                    small.title if small else each.drafted.drafts,
                    f"{without:,.0f}",
                    f"{each.drafted.tokens_per_second:,.0f}",
                    f"{each.drafted.tokens_per_second / without:.2f}",
                ]
            )
    if not rows:
        return []
    head = ["design", "drafts by", "tokens/s without", "with", "ratio"]
    return [
        *("", "## Lossless speculation, one document", ""),
        f"At most {DRAFTED_TOKENS} tokens are drafted and then verified in one pass (arXiv 2211.17192), sampled at "
        "temperature 1; the distribution of the text is the same. Shown are the fastest drafts of each design.",
        "",
        *_table(head, rows),
    ]


def _frontier(each: DesignFigures, designs: Sequence[DesignFigures], batches: Sequence[int]) -> str:
    if each.kind == "token-level":
        return ""
    beyond = [str(batch) for batch in batches if beyond_frontier(each, designs, batch)]
    return f"batch {', '.join(beyond)}" if beyond else "no"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    alignment = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, alignment, *rows)]
