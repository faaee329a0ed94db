"""The tutorial's page about a cluster, on a real one of this machine: `make tutorial`."""

import os
import re
import shlex

import pytest

from tests.docs.pages import blocks
from tests.docs.world import MODELS, SMALL, new_world
from tests.infra.submission.test_submit_to_a_cluster import cluster as cluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(
        not os.environ.get("SLLM_TUTORIAL"), reason="takes minutes: make tutorial, or set SLLM_TUTORIAL=1"
    ),
]
PAGE = [
    block
    for block in blocks()
    if block.page == "docs/tutorial/cluster.md" and block.title == "needs a cluster"
]
EXAMPLE = "run-0a1b2c3d4e5f"
"""The id of a submission on the page."""


def test_the_commands_for_a_cluster_run(cluster, empty_store, tmp_path):
    world = new_world(tmp_path, empty_store)
    environment = {"PWD": str(tmp_path)}
    said, submitted = [], EXAMPLE
    for command in (command for block in PAGE for command in block.commands):
        command = command.replace("http://127.0.0.1:8265", cluster.address).replace(EXAMPLE, submitted)
        words = shlex.split(command, comments=True)
        if words[0] == "export":
            environment |= dict(word.split("=", 1) for word in words[1:])
            continue
        small = [*MODELS, *SMALL] if words[1] == "run" else []
        job = cluster.sllm(*words[1:], *small, folder=world.folder, **environment)
        stdout, stderr = job.communicate(timeout=600)
        assert job.returncode == 0, f"{command}\n{stdout[-3000:]}{stderr[-3000:]}"
        if "--detach" in words:
            submitted = stdout.strip()
            assert re.fullmatch(r"run-[0-9a-f]{12}(-\d+)?", submitted)
        said.append(stdout + stderr)
    assert len(said) >= 6 and all(submitted in text for text in said[2:])
    assert (tmp_path / "runs" / "submitted" / "sllm" / "config.json").exists()
