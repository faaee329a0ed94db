from pathlib import Path

import pytest

from jobs.prepare import prepare
from tests.jobs.corpus import ROWS, config_for, write_rows


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A finished output folder."""
    write_rows(tmp_path, ROWS)
    prepare(config_for(tmp_path), str(tmp_path / "out"))
    return tmp_path / "out"
