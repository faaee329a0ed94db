"""The short form of `make faults`: some cases, one moment each, from a new seed."""

import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.__main__ import run
from tests.faults.cases import CASES

pytestmark = pytest.mark.ray
SHORT = ("prepare-worker", "shard-bit-unfinished")


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_prepare_through_faults() -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    root = Path(tempfile.mkdtemp(prefix="sllm-faults-", dir="/tmp"))  # Unix sockets need a short path
    outcomes = list(run([case for case in CASES if case.name in SHORT], seed, 1, root))
    wrong = {outcome.case: outcome.wrong for outcome in outcomes if outcome.wrong}
    assert not wrong, f"python -m tests.faults --seed {seed} --cases {','.join(wrong)}: {wrong}"
    shutil.rmtree(root)
