import pytest

from segmenters.conllu import read_conllu

WORD = "1\t{}\t_\t_\t_\t_\t_\t_\t_\t{}\n"


def test_text_is_built_from_tokens_where_it_is_not_given() -> None:
    lines = [
        WORD.format("One", "SpaceAfter=No"),
        WORD.replace("1", "2-3", 1).format("two.", "_"),
        WORD.replace("1", "2", 1).format("tw", "_"),
        WORD.replace("1", "3", 1).format("o.", "_"),
        WORD.replace("1", "3.1", 1).format("empty", "_"),
        "\n",
        "# newpar\n",
        "# text = Three.\n",
        WORD.format("ignored", "_"),
    ]
    (document,) = read_conllu(lines)
    assert document.text == "Onetwo.\nThree."
    assert document.ends == [7, 14] and document.broken_line is None


def test_documents_begin_at_newdoc() -> None:
    lines = ["# newdoc id = a\n", "# text = A.\n", "\n", "# newdoc\n", "# text = B.\n"]
    first, second = read_conllu(lines)
    assert (first.doc_id, first.line, first.text) == ("a", 1, "A.")
    assert (second.doc_id, second.line, second.text) == (None, 4, "B.")


@pytest.mark.parametrize("line", ["1\tone", "x" + WORD.format("one", "_"), "text"])
def test_a_line_that_is_no_token_is_named(line: str) -> None:
    (document,) = read_conllu(["# text = A.\n", line])
    assert document.broken_line == 2
