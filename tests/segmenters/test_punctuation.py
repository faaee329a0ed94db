import pytest

from segmenters.batching import WINDOW
from segmenters.punctuation import Punctuation


def sentences(text: str, **options: bool) -> list[str]:
    ends = Punctuation(**options).split([text])[0]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    "bars",
    [
        "He left. |She stayed! |Did you? |Yes…",
        'He said "Go." |Then (he left.) |Done.',
        "Dr. A. Smith paid $3.50 to J. R. Jones, i.e. nothing. |Good.",
        "See fig. 3 and example.org, pp. 4 to 6. |Then stop.",
        '"Really?" he asked. |And ... so on.',
        "i went home. |it was late",
        "1. First item\n|2. Second item\n|Rest",
        "Title\n|Text goes on\nhere, wrapped.\n|New line.\n\n|and a paragraph",
        "他说：“好。”|然后走了！|真的？|是",
        "यह है। |वह था॥ |और",
        "هل هذا؟ |نعم. |لا",
        "Er kam z.B. am Mittag. |Dann ging er.",
        "One.\r\n|Two.\r\n\r\n|three.\u2028|Four",
        "  \n Leading space. |Next.",
    ],
)
def test_splits(bars: str) -> None:
    assert sentences(bars.replace("|", "")) == bars.split("|")


def test_without_line_breaks_only_an_empty_line_ends_a_sentence() -> None:
    assert sentences("One\nTwo\n\nThree\r\nfour", line_breaks=False) == ["One\nTwo\n\n", "Three\r\nfour"]


def test_a_long_text_is_split_like_its_parts() -> None:
    sentence = "Mr. Smith went home, and so on and on it went for him. "
    count = 3 * WINDOW // len(sentence)
    ends = Punctuation().split([sentence * count])[0]
    assert ends.tolist() == [len(sentence) * (i + 1) for i in range(count)]
