"""SECURITY.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())


def test_each_test_that_it_names_is_there():
    assert len(NAMED) > 10
    for file, name in NAMED:
        text = (ROOT / file).read_text()
        assert not name or f"def {name}(" in text, f"{file}::{name}"


def test_each_claim_has_a_test():
    claims = (ROOT / "SECURITY.md").read_text().partition("| claim | test |")[2].partition("\n## ")[0]
    rows = [row for row in claims.splitlines() if row.startswith("| ")]
    assert rows and all("`tests/" in row.rsplit("|", 2)[1] for row in rows)
