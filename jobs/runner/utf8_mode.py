"""UTF-8 for file names and text, in any locale."""

import os
import sys
from typing import TextIO


def ensure_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if names or output have another encoding, as in the C locale.

    Processes that it starts inherit the mode. Characters that UTF-8 cannot encode are printed as escapes.
    """
    encodings = {sys.getfilesystemencoding(), *(stream.encoding for stream in _streams())}
    if any(encoding.replace("-", "").lower() != "utf8" for encoding in encodings) and not sys.flags.utf8_mode:
        environment = {**os.environ, "PYTHONUTF8": "1"}
        environment.pop("PYTHONIOENCODING", None)
        arguments = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, environment)  # noqa: S606
    for stream in _streams():
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


def _streams() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
