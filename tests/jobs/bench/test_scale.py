"""`sllm bench scale` runs the real driver, manifest, scheduler and stream on made-up work units."""

import json

import pytest
from typer.testing import CliRunner

from jobs.bench.cli import command
from jobs.bench.scale import driver, measure
from pipeline.lineage import MANIFEST_NAME
from pipeline.shards.manifest import Manifest


def test_the_driver_plans_every_work_unit_and_writes_the_manifest():
    cost, content = driver(40, 10)
    manifest = Manifest.parse(content, MANIFEST_NAME)
    assert manifest.num_work_units == len(manifest.shards) == 40
    assert len(manifest.identity.inputs) == 3  # of 16 work units each, and the rest
    assert cost.stored_bytes > len(content) and cost.seconds > 0


@pytest.mark.parametrize("part", ["manifest", "stream"])
def test_each_part_is_printed_with_figures_per_item(part):
    printed = json.loads(CliRunner().invoke(command, ["scale", part, "--count", "50"]).output)
    assert printed["part"] == part and printed["count"] == 50
    assert printed["milliseconds_per_item"] == pytest.approx(1e3 * printed["seconds"] / 50)


def test_the_scheduler_hands_out_every_item(ray_cluster):
    assert measure("scheduler", 300, num_workers=1).milliseconds_per_item < 1000
