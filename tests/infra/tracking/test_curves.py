import json

from infra.tracking.curves import Curves
from infra.tracking.journal import JOURNAL_NAME
from infra.tracking.run import start_run
from pipeline.config import TrackingConfig
from tests.ports import free_ports


def test_points_come_from_the_store_and_from_what_waits_for_it(tracking_uri, tmp_path):
    run = start_run(TrackingConfig(uri=tracking_uri), "train-lm", str(tmp_path / "lm"))
    for step in (10, 20):
        run.log_metrics({"train/loss": 1 / step}, step=step)
    run.log_metrics({"train/loss": 9.0})
    run.end("FINISHED")
    assert run.close()
    waiting = [
        {"do": "create", "key": "older"},
        {"do": "metrics", "step": 1, "values": {"train/loss": 7.0}},
        {"do": "create", "key": "this"},
        {"do": "metrics", "step": 30, "values": {"train/loss": 0.5, "dev/loss": 0.75}},
    ]
    lines = "\n".join(map(json.dumps, waiting)) + '\n{"do": "metr'
    (tmp_path / "lm" / JOURNAL_NAME).write_text(lines)
    curves = Curves(tracking_uri)
    found = curves.of(run.run_id, str(tmp_path / "lm"), ["train/loss", "dev/loss", "none"])
    assert found["dev/loss"] == [(30, 0.75)] and set(found) == {"train/loss", "dev/loss"}
    assert [step for step, _ in found["train/loss"] if step] == [10, 20, 30]
    assert curves.of("0" * 32, str(tmp_path), ["train/loss"]) == {} and not curves.is_away


def test_a_store_that_is_away_is_asked_once(tmp_path):
    (port,) = free_ports(1)
    curves = Curves(f"http://127.0.0.1:{port}")
    assert curves.of("a", str(tmp_path), ["train/loss"]) == {} and curves.is_away
    assert curves.of("a", str(tmp_path), ["train/loss"]) == {}
