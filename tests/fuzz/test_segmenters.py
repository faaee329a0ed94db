"""Texts of any kind, split by each segmenter; and files on which the learned one is trained."""

import gzip
import json

import pytest

import segmenters
from segmenters.contract import check_ends
from segmenters.learned.training.examples import read_gold, read_raw
from tests.fuzz.mutations import mutated, mutated_text

TEXTS = [
    'Dr. A. Smith paid $3.50 (see Fig. 2). "Go!" he said... Really?! Yes.\n\nNext paragraph, e.g. this\none. ',
    "他说：“好。”然后走了。这是什么？！……\n日本語の文。「はい。」と言った。",
    "हिन्दी वाक्य है। दूसरा। هذه جملة. وهذه؟ Ελληνικά; Ναι. ภาษาไทยไม่มีจุด",
    "# Title\n\n- item one\n- item (two)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = [1,\n  2]\n```\n",
    'def f(x):\n    """Doc.\n\n    More."""\n    return (x + # why\n 1)\n\n/* c\n */ int main() { return 0; }\n',
    'id,text\n1,"a ""b""\nc"\n2,plain\n\n{"key": [1, 2, "three"]}\nkey: value\nlist:\n  - path/*\n',
    "<p>One. <b>Two</b></p>\r\n\u2028\x85\u200b\u00ad e\u0301 👩\u200d👩 \ud800 \ufeff",
    "See www.example.com/a?b=1 or a@b.c at 12:30, for 1.000,5 each.",
    "and then we went there it was good i liked it what about you no idea",
]


@pytest.mark.parametrize("name", sorted(segmenters.BUILT_IN))
def test_any_text_is_cut_without_loss(fuzz, name):
    try:
        segmenter = segmenters.load(name)
    except segmenters.SegmenterError as error:
        pytest.skip(str(error))

    def check(text):
        check_ends(text, segmenter.split([text])[0])

    fuzz(name, lambda rng: mutated_text(rng, TEXTS), check)


GOLD = b'{"text": "One. Two.", "ends": [4, 9]}\n{"text": "a b", "ends": [3]}\n'
CONLLU = (
    b"# newdoc id = d1\n# newpar\n# sent_id = 1\n# text = One two.\n1\tOne\tone\tNUM\t_\t_\t2\tx\t_\t_\n"
    b"2-3\ttwo.\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n\n"
    b"# newdoc\n# text = Three.\n1\tThree.\t_\t_\t_\t_\t0\troot\t_\t_\n\n"
)
RAW = (
    json.dumps({"text": "A long line of running text, which ends in a full stop, stands here.\n\nx"}).encode()
    + b"\n"
)


def test_a_gold_file_is_read_or_refused(fuzz):
    seeds = {"a.jsonl": [GOLD], "a.conllu": [CONLLU], "a.jsonl.gz": [gzip.compress(GOLD)]}

    def make(rng):
        name = rng.choice(sorted(seeds))
        return name, mutated(rng, seeds[name])

    def check(case):
        name, content = case
        (fuzz.folder / name).write_bytes(content)
        for example in read_gold(fuzz.folder / name):
            assert not example.ends or 0 < example.ends[0] <= example.ends[-1] <= len(example.text)
            assert all(a < b for a, b in zip(example.ends, example.ends[1:], strict=False))

    fuzz("gold", make, check)


def test_raw_text_is_read_or_refused(fuzz):
    file = fuzz.folder / "a.jsonl"

    def check(content):
        file.write_bytes(content)
        for example in read_raw(file):
            assert example.text

    fuzz("raw text", lambda rng: mutated(rng, [RAW, GOLD]), check)
