import pytest

from segmenters import load
from segmenters.learned.structure import Structure, recognise, regions
from tests.segmenters.learned.structured_texts import PYTHON, RUST, TABLE

YAML = """name: build
on:
  push:
    branches: [main]
jobs:
  test:
    - run: make test
    - run: echo "Done. Really."
"""

SCHEMA = """title: Backend
description: |-
  A backend serves. It may fail, and then another does;
  this is all that can be said of it.

  Two paragraphs of prose, as such files have.
type: object
"""

ITEMS = """# What is done. It is described here, at length.
#
# In prose: as one does.

- name: add(Tensor self)
  self: grad * 2
- name: sub
  self: grad
"""

BULLETS = "# Plan\n\n- first: this is done. Then\n  that.\n- second, or so\n- third\n- and a last one\n"

MINIFIED = "!function(e,t){var n=e.a;if(!n){return t(n,[1,2]);}for(var i=0;i<9;i++){n=n+t(i);}" * 4

CHAT = "anna: are you there? I waited.\nben: yes. sorry!\nanna: come then; we go now.\n"


PROSE = 'He said: "It is so." Then he left; nobody knew (yet).\nIt was late, too.\nFrom: the office\n'


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        (PYTHON, Structure.PYTHON),
        (PYTHON.replace("\n", "\r\n"), Structure.PYTHON),
        (RUST, Structure.CODE),
        (YAML, Structure.CODE),
        (SCHEMA, Structure.CODE),
        (ITEMS, Structure.CODE),
        (BULLETS, Structure.PROSE),
        (MINIFIED, Structure.CODE),
        ("/* Made by a tool. */\n" + MINIFIED * 60, Structure.CODE),
        (CHAT, Structure.PROSE),
        (TABLE, Structure.DELIMITED),
        (TABLE.replace(",", ";"), Structure.DELIMITED),
        ("a\tb\n1\t2\n3\t4\n", Structure.DELIMITED),
        (PROSE, Structure.PROSE),
        ("", Structure.PROSE),
        ("One line = none;", Structure.PROSE),
        ("# Title\n\nSome text here.\n\n- one, two\n- three\n", Structure.PROSE),
        ('"Go!" he said.\n"I shall," she said, "not go."\n"Good."\n', Structure.PROSE),
    ],
)
def test_kinds_are_recognised(text: str, structure: Structure) -> None:
    assert recognise(text) is structure


def test_fenced_blocks_are_regions_of_their_own() -> None:
    text = "Some text. More.\n\n```python\nx = [1,\n     2]\n```\nAnd so on.\n"
    found = [(text[one.start : one.end], one.structure) for one in regions(text)]
    assert found == [
        ("Some text. More.\n\n", Structure.PROSE),
        ("```python\n", Structure.CODE),
        ("x = [1,\n     2]\n```\n", Structure.PYTHON),
        ("And so on.\n", Structure.PROSE),
    ]


@pytest.mark.parametrize(
    "sentence", ["这座城市有三千多年的历史，人口超过两千万。", "กรุงเทพมหานครเป็นเมืองหลวงและเมืองที่ใหญ่ที่สุด "]
)
def test_long_lines_of_scripts_without_spaces_are_prose(sentence: str) -> None:
    text = f"{sentence * 12}\n" * 3
    assert recognise(text, unspaced_prose=True) is Structure.PROSE
    assert len(load("learned_v2").split([text])[0]) >= 3 * 11


def test_learned_v1_takes_them_for_code_as_it_did() -> None:
    text = f"{'这座城市有三千多年的历史，人口超过两千万。' * 12}\n" * 3
    assert recognise(text) is Structure.CODE
    assert recognise("x=a+b;" * 60 + "\n" + "y(1,2);" * 60 + "\n", unspaced_prose=True) is Structure.CODE
