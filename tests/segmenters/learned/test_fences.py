import re

from hypothesis import given
from hypothesis import strategies as st

from segmenters.learned.fences import fenced_blocks, without_fenced_blocks

BY_DEFINITION = re.compile(
    r"^[ \t]*(?P<fence>```++|~~~++)(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$\n?|\Z)",
    re.M | re.S,
)
"""The same in one pattern, which tries to end the block at every character."""


def test_a_block_ends_at_a_fence_that_is_as_long() -> None:
    text = "Text.\n  ````C++ x\n```\ncode\n````\n~~~\nopen"
    assert [(text[b.start : b.body], text[b.body : b.end], b.language) for b in fenced_blocks(text)] == [
        ("  ````C++ x\n", "```\ncode\n````\n", "c++ x"),
        ("~~~\n", "open", ""),
    ]
    assert without_fenced_blocks(text) == "Text.\n"


@given(st.lists(st.sampled_from(["```", "````", "~~~", "`", "~", "\n", " ", "\t", "a", "py\n"]), max_size=30))
def test_blocks_are_those_of_the_definition(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert [(b.start, b.body, b.end) for b in fenced_blocks(text)] == [
        (m.start(), m.start("body"), m.end()) for m in BY_DEFINITION.finditer(text)
    ]
    assert without_fenced_blocks(text) == BY_DEFINITION.sub("", text)
