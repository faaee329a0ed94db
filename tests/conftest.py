"""What all tests share: one small Ray cluster per test session, started when a test first asks for it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.browser import browser as browser  # a fixture of all tests

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")  # a slow test would have more metrics
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about a coming default
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# No deadline: a busy machine is slow, not wrong.
hypothesis.settings.register_profile(
    "sllm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("sllm")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals the tests out to the processes of `make test`."""
    from tests.two_processes import ByGroup

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest group begins first; without pytest-xdist the order stays."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.two_processes import ON_RAY, group

        items.sort(key=lambda item: group(item.nodeid.split("::")[0]) != ON_RAY)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster of this session's own, 2 CPUs, no dashboard; yields its address."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs; making its tables takes seconds, copying it none."""
    from infra.tracking.store import client_of

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_of(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL database, shared by the tests of a session."""
    from tests.infra.tracking.postgres import postgres

    with tempfile.TemporaryDirectory(prefix="sllm-postgres-") as folder, postgres(Path(folder)) as uri:
        yield uri


@pytest.fixture
def tracking_uri(empty_store: Path, tmp_path: Path) -> str:
    """A fresh MLflow store of this test's own."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """The file system of an object store without buckets: a server on this machine, which ends with the module."""
    import fsspec
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield fsspec.filesystem("s3", skip_instance_cache=True)
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """A test that leaves one of these variables changed would lead later tests to another cluster or store."""
    names = (
        *("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"),
        *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"),
    )
    before = [os.environ.get(name) for name in names]
    yield
    assert [os.environ.get(name) for name in names] == before
