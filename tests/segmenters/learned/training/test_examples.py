import contextlib
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from segmenters import SegmenterError
from segmenters.learned.training import augmentation
from segmenters.learned.training.augmentation import mixed, stripped_with_hints
from segmenters.learned.training.examples import Example, pieces, read_gold, read_raw, sentences
from segmenters.scoring import score_ends

TEXT = Example('He came, they say.\nShe "left" at 3 p.m. today. Why?', (18, 46, 51))
HARDER = [
    augmentation.stripped,
    augmentation.lowered,
    augmentation.raised,
    augmentation.joined_lines,
    augmentation.without_marks,
    augmentation.wrapped,
    augmentation.foreign,
    augmentation.other_script,
]


@pytest.mark.parametrize("harder", HARDER)
def test_a_harder_text_keeps_its_sentences(harder: object) -> None:
    for seed in range(5):
        made = harder(TEXT, random.Random(seed))  # type: ignore[operator]
        assert len(made.ends) == 3 and made.ends[-1] == len(made.text)
        words = [len(part.split()) for part in sentences(made)]
        assert words == [4, 6, 1]


def test_stripped_text_has_no_case_mark_or_line_break() -> None:
    assert augmentation.stripped(TEXT, random.Random(0)).text == "he came they say she left at 3 pm today why"


def test_hints_say_what_stripping_took_away() -> None:
    bare, hints = stripped_with_hints(TEXT)
    told = {bare.text[hint.start :].split()[0]: (hint.mark, hint.is_capital) for hint in hints}
    assert told["he"] == (0, True) and told["they"] == (1, False) and told["she"] == (3, True)
    assert told["3"] == (0, False) and told["why"] == (3, True)


def test_the_mix_is_the_same_for_the_same_seed() -> None:
    assert mixed([TEXT] * 5, [TEXT] * 5, seed=3) == mixed([TEXT] * 5, [TEXT] * 5, seed=3)


def test_pieces_end_where_sentences_do() -> None:
    parts = pieces(TEXT, size=10)
    assert [part.text for part in parts] == ["He came, they say.", 'She "left" at 3 p.m. today.', "Why?"]
    assert [part.ends for part in parts] == [(18,), (27,), (4,)]


def test_gold_is_read_from_jsonl_and_conllu(tmp_path: Path) -> None:
    jsonl = tmp_path / "a.jsonl.gz"
    jsonl.write_bytes(gzip.compress(json.dumps({"text": "A. B.", "ends": [2, 5]}).encode()))
    assert list(read_gold(jsonl)) == [Example("A. B.", (2, 5))]
    conllu = tmp_path / "a.conllu"
    conllu.write_text(
        "# newdoc id = 1\n# text = A b.\n1\tA\t_\n2\tb\t_\tSpaceAfter=No\n3\t.\t_\n\n# text = C.\n1\tC\tSpaceAfter=No\n"
        "2\t.\tSpaceAfter=No\n\n# newpar\n# text = D\n1\tD\t_\n\n# newdoc id = 2\n# text = E\n1\tE\t_\n"
    )
    assert list(read_gold(conllu)) == [Example("A b. C.\nD", (4, 7, 9)), Example("E", (1,))]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "a.jsonl:1: not JSON"),
        ("[]", "a.jsonl:1: not a document"),
        ('{"text": "x"}', "a.jsonl:1: gold boundaries need"),
        ('{"text": "x", "ends": [2]}', "a.jsonl:1: `ends` must increase"),
    ],
)
def test_broken_gold_is_refused(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(SegmenterError, match=says):
        list(read_gold(tmp_path / "a.jsonl"))


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "One. Two.", "ends": [4, 9]}\n' * 9)
    for place in range(len(whole)):
        (tmp_path / "a.jsonl.gz").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        )
        with contextlib.suppress(SegmenterError):
            list(read_gold(tmp_path / "a.jsonl.gz"))


def test_gold_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 10**5)
    with pytest.raises(SegmenterError, match=r"a\.jsonl:1: not JSON"):
        list(read_gold(tmp_path / "a.jsonl"))


def test_raw_text_gives_its_prose(tmp_path: Path) -> None:
    prose = "This is a line of prose which is long enough. It has two sentences."
    text = f"{prose}\n\nx = {{1: 2}};\n| a | b |\nshort.\n"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    assert list(read_raw(tmp_path / "a.jsonl")) == [Example(prose, (46, len(prose)))]


def test_scores_count_boundaries_but_not_the_ends_of_texts() -> None:
    example = Example("A b. C d. E", (4, 9, 11))
    counts = score_ends([np.array([5, 7, 11])], [example])
    assert (counts.hit, counts.said, counts.true) == (1, 2, 2)
    assert counts.f1 == counts.precision == counts.recall == 0.5
