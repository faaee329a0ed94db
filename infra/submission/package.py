"""The file that a submitted job gets: the working folder, less what is not sent, and the resolved configuration."""

import zipfile
from pathlib import Path

from infra.submission.sent_config import NAME
from infra.submission.submitted_files import submitted_files

_TIME = (1980, 1, 1, 0, 0, 0)
"""Of each entry, so that the same files give the same bytes, which Ray uploads once."""


def write_package(folder: Path, config: str, file: Path) -> None:
    """Write the zip file `file`: what `submitted_files` names, and `config` as `sent_config.NAME`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name in submitted_files(folder):
            if name != NAME:
                source = folder / name
                entry = zipfile.ZipInfo(name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = source.stat().st_mode << 16
                package.writestr(entry, source.read_bytes())
        package.writestr(zipfile.ZipInfo(NAME, _TIME), config, zipfile.ZIP_DEFLATED)
