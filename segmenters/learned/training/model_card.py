"""The model card that is written beside trained weights."""

from collections.abc import Mapping
from pathlib import Path

from segmenters.learned.correction.weights_file import load_weights as load_correction
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


def correction_card(
    weights: Path,
    characters: Mapping[str, int],
    scores: Mapping[str, float],
    held_out_fraction: float,
    licence_note: str,
    settings: Mapping[str, object],
) -> str:
    """The model card of `learned_v2` in Markdown: data, licences, scores beside those of the rule, settings.

    `scores`: F1 by `held_out/NAME/f1` and `held_out/NAME/f1_of_rule`; the rest as in `model_card`.
    """
    files = "\n".join(f"| `{Path(path).name}` | {count:,} |" for path, count in characters.items())
    names = [name.split("/")[1] for name in scores if name.endswith("/f1")]
    results = "\n".join(
        f"| {name} | {scores[f'held_out/{name}/f1']:.4f} | {scores[f'held_out/{name}/f1_of_rule']:.4f} |"
        for name in names
    )
    values = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"""# A sentence segmenter: learned_v2

{weights.stat().st_size:,} bytes, SHA-256 `{load_correction(weights).digest}`. The rule `punctuation_v2` decides where
sentences end; this network overrules it after a space where its log-odds are large enough, in texts whose language it
recognises as one that it was trained on. In long stretches without any mark or line break the network for unpunctuated
text of `learned_v1` decides, and in ideographs one of its own.

## Data

| file | characters |
|---|---|
{files}

{licence_note}

Labelled text was used as it is and augmented: its sentences in another order and alone, with and without their final
marks, with spaces for line breaks, in lower and upper case, with quotes of other styles; words were hidden, as in a
language that was not trained on. Of raw text two statistics of each word were used: how often it is in lower case, and
how often a full stop that ends no sentence is after it; and the first 200,000 characters of each file with the answers
of the rule, as they are and with few final marks removed. Of the words beside open places the weights say in which
language each is most frequent. The network for ideographs was trained on the labelled and raw Chinese and Japanese
sentences, in their order and in others, without their marks. The weights store hashes of words and numbers, no text.

## Scores

F1 on {held_out_fraction:.0%} of the texts of each labelled file (at least one text), which were not trained on.
Of the weights that are shipped, the page `docs/segmenters.md` has F1 on the dev set of each treebank.

| held out from | learned_v2 | punctuation_v2 |
|---|---|---|
{results}

## Settings

{values}
"""
