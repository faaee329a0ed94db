"""What a machine uses, and when it is measured."""

import pytest

from infra.machine import Machine, is_measured, sample_seconds


def test_a_machine_gives_processor_memory_disk_and_network():
    found = Machine().sample()
    names = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage"}
    assert names <= found.keys() and any(name.startswith("network_") for name in found)
    assert all(value >= 0 for value in found.values()) and found["system_memory_usage_megabytes"] > 1


@pytest.mark.parametrize(("value", "expected"), [("false", False), ("0", False), ("true", True), ("", True)])
def test_measuring_is_ended_by_mlflows_variable(monkeypatch, value, expected):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", value)
    assert is_measured() == expected


@pytest.mark.parametrize(("value", "seconds"), [("2.5", 2.5), ("0", 0.1), ("often", 10.0), ("", 10.0)])
def test_how_often_is_mlflows_variable(monkeypatch, value, seconds):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", value)
    assert sample_seconds() == seconds
