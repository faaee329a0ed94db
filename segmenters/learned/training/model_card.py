"""The model card that is written beside trained weights."""

from collections.abc import Mapping
from pathlib import Path

from segmenters.learned.weights_file import load_weights


def model_card(
    weights: Path,
    characters: Mapping[str, int],
    scores: Mapping[str, float],
    held_out_fraction: float,
    licence_note: str,
    settings: Mapping[str, object],
) -> str:
    """The model card in Markdown: data, licences, scores, settings.

    `characters`: characters trained on, by file; `scores`: F1 by `held_out/NAME/f1`.
    """
    files = "\n".join(f"| `{Path(path).name}` | {count:,} |" for path, count in characters.items())
    results = "\n".join(f"| {name.split('/')[1]} | {value:.4f} |" for name, value in scores.items())
    values = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"""# A sentence segmenter: learned_v1

{weights.stat().st_size:,} bytes, SHA-256 `{load_weights(weights).digest}`. It takes text of any
language, and gives for each position the probability that a sentence ends there. These scores do not say how good it is
on languages and kinds of text that are not listed here.

## Data

| file | characters trained on |
|---|---|
{files}

{licence_note}

Each text was used as it is and augmented: without case, punctuation or line breaks, hard-wrapped, in upper case, with
unknown words, in letters of other scripts. Boundaries of raw text are those of the rule `punctuation_v1`.

## Scores

F1 on {held_out_fraction:.0%} of the texts of each gold file, which were not trained on. `-stripped`: lower case, no
punctuation, no line breaks.

| held out from | F1 |
|---|---|
{results}

## Settings

{values}
"""
