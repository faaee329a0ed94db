import contextlib
import gzip
import json
from pathlib import Path

import pytest

from segmenters import SegmenterError
from segmenters.learned.training.examples import Example, pieces, read_gold, read_raw

TEXT = Example('He came, they say.\nShe "left" at 3 p.m. today. Why?', (18, 46, 51))


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
    for position in range(len(whole)):
        (tmp_path / "a.jsonl.gz").write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        )
        with contextlib.suppress(SegmenterError):
            list(read_gold(tmp_path / "a.jsonl.gz"))


def test_deeply_nested_gold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 10**5)
    with pytest.raises(SegmenterError, match=r"a\.jsonl:1: not JSON"):
        list(read_gold(tmp_path / "a.jsonl"))


def test_raw_text_gives_its_prose(tmp_path: Path) -> None:
    prose = "This is a line of prose which is long enough. It has two sentences."
    text = f"{prose}\n\nx = {{1: 2}};\n| a | b |\nshort.\n"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    assert list(read_raw(tmp_path / "a.jsonl")) == [Example(prose, (46, len(prose)))]
