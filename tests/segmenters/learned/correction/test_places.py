import numpy as np

from segmenters.learned.correction.places import FEATURES, places
from segmenters.rules.kinds import classified
from segmenters.rules.segmenter import PunctuationV2


def at(text: str) -> list[str]:
    batch, starts = f"\n{text}\n", np.array([1])
    code_N, kind_N = classified(batch)
    found = places(code_N, kind_N, PunctuationV2().sentence_starts(batch, starts), starts)
    limits = np.array(list(FEATURES.values()))
    assert (found.columns_MC >= 0).all() and (found.columns_MC < limits).all()
    return [batch[place : place + 4].strip() for place in found.at_M]


def test_places_are_after_spaces_where_the_answer_is_open() -> None:
    assert at('He saw Dr. Who (twice). "No" he went on: 3 times') == ["Dr.", "Who", '"No"', "3 ti"]


def test_line_breaks_and_the_inside_of_tokens_are_left_to_the_rule() -> None:
    assert at("One.\nTwo.Three\r\nFour  \n Five") == []
    assert at("") == at(" ") == at("One") == at("今日は。明日は。") == []


def test_bullets_and_headings_are_left_to_the_rule() -> None:
    assert at("## See also\n  * Bold text\n> Note\nsee - Item") == ["- It", "Item"]


def test_a_place_after_a_korean_verb_is_open() -> None:
    assert at("사진 보여줘 얼마나 걸릴까 강남역 가는 길") == ["얼마나", "걸릴까", "강남역"]
