import numpy as np

from segmenters.learned.correction.places import FEATURES, places
from segmenters.learned.correction.surroundings import STEPS
from segmenters.rules.kinds import classified
from segmenters.rules.segmenter import PunctuationV2

NAMES = list(FEATURES)


def features(*texts: str) -> list[tuple[int, int]]:
    """The surroundings and habits at the first place of each text."""
    batch = "\n" + "".join(f"{text}\n" for text in texts)
    starts = np.cumsum([1, *(len(text) + 1 for text in texts)])[:-1]
    code_N, kind_N = classified(batch)
    found = places(code_N, kind_N, PunctuationV2().sentence_starts(batch, starts), starts)
    first = np.searchsorted(found.text_M, np.arange(len(texts)))
    columns = found.columns_MC[first]
    return [(int(one[NAMES.index("surroundings")]), int(one[NAMES.index("habits")])) for one in columns]


def test_marks_capitals_and_breaks_near_a_place_are_counted() -> None:
    plain, shouted, broken = features(
        "he saw Ann there " * 9, "He Saw Ann There. " * 9, "he saw Ann there\n" * 9
    )
    assert plain[0] == STEPS * 2  # no mark, under a quarter of capitals, no break
    assert shouted[0] == (STEPS - 1) * STEPS**2 + (STEPS - 1) * STEPS
    assert broken[0] == STEPS * 2 + STEPS - 1


def test_lower_case_after_marks_is_a_habit_of_the_text() -> None:
    careful, careless = features("He came. She went. " * 9, "he came. she went. " * 9)
    assert careful[1] % 3 == careless[1] % 3 == 2  # many marks
    assert careful[1] // 3 == 0
    assert careless[1] // 3 == (STEPS - 1) * STEPS


def test_other_texts_change_nothing() -> None:
    texts = "he saw Ann. she went\n" * 3, "Dr. Who Came", "he saw Ann there " * 9
    assert features(*texts) == [features(text)[0] for text in texts]
