"""Text of a corpus, a file name, a library or a model as a terminal may print it."""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls of a terminal (C0 but for tab and line feed, C1), line separators, changes of the writing direction, and
lone surrogates, which no terminal can be sent."""


def printable(text: str) -> str:
    """The text with each character that a terminal would obey, or that hides others, as `\\uXXXX`.

    So it is in JSON too, of which the result means the same.
    """
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
