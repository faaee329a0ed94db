import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenters.learned import logical_lines
from segmenters.learned.logical_lines import structured_ends
from segmenters.learned.structure import Structure
from tests.segmenters.learned.structured_texts import PYTHON, RUST, TABLE


def parts(text: str, structure: Structure) -> list[str]:
    found = structured_ends(text, structure)
    return [text[a:b] for a, b in zip([0, *found], found, strict=False)]


def test_python_is_cut_at_logical_lines_and_lone_comments() -> None:
    assert [part.strip() for part in parts(PYTHON, Structure.PYTHON)] == [
        '"""Doc. Two sentences.\n\nMore: of it.\n"""',
        "import os",
        "# A comment. Of two sentences.",
        "def f(a,\n      b=(1,\n         2)):",
        "# inside",
        'text = "a; b # c"  # after',
        "return [\n        # in brackets",
        "a + \\\n        b,\n    ]",
    ]


def test_code_is_cut_at_line_ends_outside_brackets_and_comments() -> None:
    assert [part.strip() for part in parts(RUST, Structure.CODE)] == [
        "// Adds. And more.",
        "use std::fmt;",
        "fn add(a: i32,\n       b: i32) -> i32 {",
        "let c = 'x'; /* a\n    block */",
        "a + b",
        "}",
    ]


def test_a_stray_bracket_swallows_no_more_than_its_paragraph() -> None:
    assert len(parts("f(a;\nb;\n\nc;\nd;\n", Structure.CODE)) == 3


def test_records_end_outside_quotes() -> None:
    assert parts(TABLE, Structure.DELIMITED) == [
        "id,said\n",
        '1,"Hello.\nYou, there. ""Ok""\n"\n',
        '2,"Bye, now"\n',
        "3,x\n",
    ]


@pytest.mark.parametrize("structure", [Structure.PYTHON, Structure.CODE, Structure.DELIMITED])
@pytest.mark.parametrize("text", ["", "\n", " \n\n ", '"', "'''", "x", "(\n", '"a\nb', "}\n}\n", "\\\n"])
def test_broken_text_loses_nothing(text: str, structure: Structure) -> None:
    assert "".join(parts(text, structure)) == text


PIECES = (
    *(
        '"',
        "'",
        "`",
        '"""',
        "'''",
        "/*",
        "*/",
        "//",
        "# ",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\\",
        "\\\n",
        "\n",
        "\r\n",
    ),
    *("a", "b ", ":", "\n\n", "'x'", '"s"', "f(a)", "{b}", "http://c"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_what_is_skipped_at_once_changes_no_end(text: str) -> None:
    """With a pattern that stops at once, every token takes the slow way."""
    stops = re.compile("(?P<opener>)")
    for ends, fast in (
        (logical_lines._python_ends, "_PYTHON_FAST"),
        (logical_lines._code_ends, "_CODE_FAST"),
    ):
        found = ends(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logical_lines, fast, stops)
            assert ends(text) == found
