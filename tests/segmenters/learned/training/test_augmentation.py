import random

import pytest

from segmenters.learned.training import augmentation
from segmenters.learned.training.augmentation import mixed, stripped_with_hints
from segmenters.learned.training.examples import Example, sentences

TEXT = Example('He came, they say.\nShe "left" at 3 p.m. today. Why?', (18, 46, 51))
AUGMENTATIONS = [
    augmentation.stripped,
    augmentation.lowered,
    augmentation.raised,
    augmentation.joined_lines,
    augmentation.without_final_marks,
    augmentation.wrapped,
    augmentation.foreign,
    augmentation.other_script,
]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmented_text_keeps_its_sentences(augment: object) -> None:
    for seed in range(5):
        made = augment(TEXT, random.Random(seed))  # type: ignore[operator]
        assert len(made.ends) == 3 and made.ends[-1] == len(made.text)
        words = [len(part.split()) for part in sentences(made)]
        assert words == [4, 6, 1]


def test_stripped_text_has_no_case_punctuation_or_line_break() -> None:
    assert augmentation.stripped(TEXT, random.Random(0)).text == "he came they say she left at 3 pm today why"


def test_hints_name_what_stripping_removed() -> None:
    bare, hints = stripped_with_hints(TEXT)
    removed = {bare.text[hint.start :].split()[0]: (hint.mark, hint.is_capital) for hint in hints}
    assert removed["he"] == (0, True) and removed["they"] == (1, False) and removed["she"] == (3, True)
    assert removed["3"] == (0, False) and removed["why"] == (3, True)


def test_the_mix_is_the_same_for_the_same_seed() -> None:
    assert mixed([TEXT] * 5, [TEXT] * 5, seed=3) == mixed([TEXT] * 5, [TEXT] * 5, seed=3)
