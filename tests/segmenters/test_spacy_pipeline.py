from pathlib import Path

import pytest
import spacy

from segmenters import SegmenterError, load
from segmenters.spacy_pipeline import SpacyPipeline, _pipeline, _windowed


def parts(text: str, **options: str) -> list[str]:
    ends = SpacyPipeline(**options).split([text])[0]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def test_the_default_is_the_sentencizer() -> None:
    assert parts("One here. Two there!  Three") == ["One here. ", "Two there! ", " Three"]


def test_only_the_component_that_splits_is_kept(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    nlp.add_pipe("tagger").add_label("NN")
    nlp.add_pipe("senter")
    nlp.add_pipe("entity_ruler")
    nlp.initialize()
    nlp.to_disk(tmp_path / "model")
    name = str(tmp_path / "model")
    assert _pipeline(name, None).pipe_names == ["tok2vec", "senter"]
    assert _pipeline(name, "sentencizer").pipe_names == ["sentencizer"]
    assert parts("One here. Two", pipeline=name, component="sentencizer") == ["One here. ", "Two"]
    assert SpacyPipeline(name).fingerprint()["pipeline"]["lang"] == "en"


def test_a_text_over_the_limit_is_split_in_windows() -> None:
    nlp = spacy.blank("xx")
    nlp.add_pipe("sentencizer")
    text = "One is here. Two is there. Three. " + "x" * 60 + " Four."
    ends = _windowed(nlp, text, 25).tolist()
    assert ends[:3] == [13, 27, 34] and ends[-1] == len(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pipeline": "no_such_model"}, "no spaCy pipeline 'no_such_model'"),
        ({"component": "tagger"}, "must be one of parser"),
        ({"component": "parser"}, "has no parser"),
    ],
)
def test_bad_options_are_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(SegmenterError, match=says):
        load("spacy_v1", **options)
