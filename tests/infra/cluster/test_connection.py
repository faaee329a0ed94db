"""A cluster that does not answer is told at once, in one line."""

import socket

import pytest

from infra.cluster.connection import connect, is_cluster_given
from pipeline.config import RayConfig
from pipeline.errors import ConfigError


@pytest.fixture
def unconnected(monkeypatch):
    """As in a process that has not connected to Ray yet."""
    import ray

    def init(**options):
        raise AssertionError("Ray was asked")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def _closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_dead_address_is_told(unconnected, monkeypatch):
    dead = f"127.0.0.1:{_closed_port()}"
    with pytest.raises(ConfigError, match=rf"no Ray cluster answers at ray\.address={dead}"):
        connect(RayConfig(address=dead))
    monkeypatch.setenv("RAY_ADDRESS", dead)
    for config in (RayConfig(), RayConfig(address="auto")):
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at RAY_ADDRESS={dead}"):
            connect(config)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001"])
def test_an_address_of_another_kind_names_submit(unconnected, address):
    with pytest.raises(ConfigError, match="--submit"):
        connect(RayConfig(address=address))


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "127.0.0.1:99999999"])
def test_an_address_that_is_none_is_told(unconnected, address):
    with pytest.raises(ConfigError, match=r"ray\.address"):
        connect(RayConfig(address=address))


def test_an_empty_variable_names_no_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert not is_cluster_given(RayConfig())
