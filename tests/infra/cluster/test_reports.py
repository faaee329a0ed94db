"""What workers report reaches the driver once, although the actor between them is killed."""

import threading
import time

import pytest
import ray

from infra.cluster.reports import Receiver, ReportQueue, Sender


def test_the_queue_keeps_what_is_not_confirmed():
    queue = ReportQueue()
    assert queue.put("a", {1: ("metrics", {"step": 1}), 2: ("metrics", {"step": 2})}) == 0
    assert queue.take({}) == {"a": {1: ("metrics", {"step": 1}), 2: ("metrics", {"step": 2})}}
    assert queue.take({"a": 1}) == {"a": {2: ("metrics", {"step": 2})}}
    # A sender that has not heard of the confirmation sends all again.
    assert queue.put("a", {1: ("metrics", {"step": 1}), 2: ("metrics", {"step": 2})}) == 1
    assert queue.take({"a": 2}) == {"a": {}}
    assert queue.put("a", {}) == 2


def test_each_step_is_reported_once_though_the_actor_dies(ray_cluster, caplog):
    curve: list[dict[str, float]] = []
    receiver = Receiver(curve.append)
    with receiver.receiving():
        sender = Sender(receiver.queue)
        for step in range(1, 4):
            sender.send(("metrics", {"step": step}))
        _until(lambda: len(curve) == 3)
        ray.kill(ray.get_actor(receiver.queue))  # for good: another takes its place
        for step in range(4, 7):
            sender.send(("metrics", {"step": step}))
        sender.send(("warning", "told once"))
        _until(lambda: len(curve) == 6)
        sender.close()
        # A restart repeats the steps after the last checkpoint.
        again = Sender(receiver.queue)
        for step in range(5, 9):
            again.send(("metrics", {"step": step}))
        again.close()
    assert [point["step"] for point in curve] == list(range(1, 9))
    assert [record.message for record in caplog.records].count("told once") == 1


def test_an_error_of_the_report_ends_the_context(ray_cluster):
    def report(metrics):
        raise ValueError("no server")

    receiver = Receiver(report)
    with pytest.raises(ValueError, match="no server"), receiver.receiving():
        sender = Sender(receiver.queue)
        sender.send(("metrics", {"step": 1}))
        threading.Event().wait(60)
    sender.close(0)


def _until(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
