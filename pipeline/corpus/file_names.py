"""File names as text that can be printed, stored and compared, for any bytes on disk.

A UTF-8 name is its own text. In other names each byte that is not UTF-8 becomes an escape such as `\\xff`; a backslash
that would look like the start of an escape becomes `\\x5c`. So the mapping is one to one. It does not depend on the
locale.
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
    """The inverse of `readable_path`. Raises `ValueError` for a text that cannot be a path."""
    data = path.encode("utf-8", "surrogateescape")
    return Path(os.fsdecode(_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), data)))
