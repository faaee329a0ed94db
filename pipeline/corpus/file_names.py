"""File names as text that can always be printed, stored and compared, whatever bytes they are on disk.

A name that is UTF-8 is its own text. Of any other, each byte that is no UTF-8 is written `\\xff`, as Python shows it; a
backslash that would read as such an escape is written `\\x5c`, so that no two names become one and each leads back to
its file. The encoding of the locale plays no part.
"""

import os
import re
from pathlib import Path

_READS_AS_ESCAPE = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")


def readable_path(path: str | Path) -> str:
    """The text of a path that the operating system gave."""
    return _READS_AS_ESCAPE.sub(rb"\\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def path_on_disk(path: str) -> Path:
    """The path that `readable_path` gave the text of. Raises `ValueError` for a text that can be no path."""
    data = path.encode("utf-8", "surrogateescape")
    return Path(os.fsdecode(_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), data)))
