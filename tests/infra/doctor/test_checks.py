"""Each check of `sllm doctor` finds what is wrong, and names what to do."""

import os
import re
import shutil
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from infra.doctor import installation, machine, services
from infra.doctor.check import answer_of
from infra.doctor.tested import TESTED
from pipeline.config import Config, load_config
from tests.ports import free_ports

REPOSITORY = Path(__file__).parents[3]


def config(*overrides: str) -> Config:
    return load_config(None, list(overrides))


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    constraints = dict(line.lower().split("==") for line in lines if "==" in line)
    assert {name: constraints[name] for name in TESTED} == TESTED
    project = (REPOSITORY / "pyproject.toml").read_text()
    needed = re.findall(
        r'^  "([\w-]+)', project[: project.index("[project.optional-dependencies]")], re.MULTILINE
    )
    assert set(needed) <= TESTED.keys()


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.state for check in installation.packages()] == ["ok"]
    real = metadata.version

    def version(name: str) -> str:
        if name == "spacy":
            raise metadata.PackageNotFoundError(name)
        return {"deepspeed": "0.18.0", "mlflow": "3.999"}.get(name, real(name))

    monkeypatch.setattr(metadata, "version", version)
    checks = {check.name: check for check in installation.packages()}
    assert checks["spacy"].state == "error" and "pip install 'spacy>=3." in checks["spacy"].remedy
    assert checks["deepspeed"].state == "error" and "0.18.0, but sllm needs" in checks["deepspeed"].found
    assert checks["packages"].state == "ok" and "mlflow 3.999 (tested: " in checks["packages"].remedy


def test_python_sllm_and_the_text_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        installation.python().state == installation.sllm().state == installation.text_encoding().state == "ok"
    )
    assert "s3" in installation.extras().found and "dev" not in installation.extras().found
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    assert installation.text_encoding().state == "warning"
    monkeypatch.setattr("sys.version_info", (3, 10, 4))
    assert installation.python().state == "error"


@pytest.mark.parametrize(("free", "state"), [(1e8, "error"), (2e9, "warning"), (1e11, "ok")])
def test_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, state: str) -> None:
    usage = namedtuple("usage", "total used free")(2e11, 1e11, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    checks = list(machine.disks(config(f"output={tmp_path}/new/run")))
    assert [check.state for check in checks] == [state] * 3 and f"{tmp_path}/new/run" in checks[0].found
    assert not (tmp_path / "new").exists()


GPU = {"torch": "2.13.0+cu130", "cuda": "13.0", "gpus": ["H100"], "gigabytes": [80.0], "bf16": True}
NO_GPU = {"torch": "2.13.0+cpu", "cuda": None, "gpus": [], "gigabytes": [], "bf16": False}


@pytest.mark.parametrize(
    ("answer", "has_driver", "overrides", "state", "said"),
    [
        (GPU, True, ["ray.use_gpu=true"], "ok", "1 x H100, 80 GB"),
        ({**GPU, "bf16": False}, True, ["precision=bf16"], "warning", "it has no bf16"),
        (NO_GPU, False, [], "ok", "none; torch 2.13.0+cpu, a build for CPUs"),
        (NO_GPU, False, ["ray.use_gpu=true"], "error", "none on this machine"),
        (NO_GPU, True, [], "warning", "there is one that torch cannot use"),
        (NO_GPU, True, ["ray.use_gpu=true"], "error", "there is one that torch cannot use"),
        ("ImportError: libcudart", True, [], "error", "torch cannot be imported: ImportError: libcudart"),
    ],
)
def test_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
    answer: object,
    has_driver: bool,
    overrides: list[str],
    state: str,
    said: str,
) -> None:
    monkeypatch.setattr(machine, "answer_of", lambda program, seconds: answer)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/nvidia-smi" if has_driver else None)
    check = machine.gpus(config(*overrides))
    assert (check.state, said in check.found) == (state, True), check
    assert check.remedy or state == "ok"


def test_a_program_answers_or_says_why_not() -> None:
    assert answer_of("import json, infra; print('noise'); print(json.dumps({'a': 1}))", 60) == {"a": 1}
    assert answer_of("raise ImportError('no libfoo')", 60) == "ImportError: no libfoo"
    assert answer_of("import os; os._exit(7)", 60) == "its process ended with exit code 7"
    assert answer_of("import time; time.sleep(60)", 0.2) == "no answer within 0.2 s"


def test_a_task_runs_on_the_cluster(ray_cluster: str) -> None:
    check = services.ray(config(f"ray.address={ray_cluster}", "ray.num_workers=3"))
    assert check.state == "warning" and "a task ran on the named cluster, with 2 CPUs" in check.found
    assert "lower ray.num_workers" in check.remedy


def test_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "answer_of", lambda program, seconds: "no answer within 180 s")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "launcher=local works without Ray" in services.ray(config()).remedy
    assert "RAY_AUTH_TOKEN_PATH" in services.ray(config("ray.address=head:6379")).remedy
    assert services.deepspeed(config()).state == "error"


def test_deepspeed_needs_a_compiler_to_offload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "answer_of", lambda program, seconds: {"version": "0.19.8"})
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert services.deepspeed(config()).state == "ok"
    check = services.deepspeed(config("deepspeed.offload_optimizer=cpu"))
    assert check.state == "error" and "lacks c++ and ninja" in check.found


def test_the_store_of_runs(tmp_path: Path, tracking_uri: str) -> None:
    assert services.mlflow(config(f"tracking.uri={tracking_uri}")).found.startswith("0 runs in ")
    new = services.mlflow(config(f"tracking.uri=sqlite:///{tmp_path}/new/mlflow.db"))
    assert new.state == "ok" and not (tmp_path / "new").exists()
    (tmp_path / "broken.db").write_text("not a database" * 100)
    assert services.mlflow(config(f"tracking.uri=sqlite:///{tmp_path}/broken.db")).state == "error"
    (port,) = free_ports(1)
    away = services.mlflow(config(f"tracking.uri=http://ann:secret@127.0.0.1:{port}"))
    assert away.state == "warning" and "does not answer" in away.found and "secret" not in away.found


def test_storage(tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/doctor/a.txt", b"x")
    try:
        inputs = "[memory://doctor/a.txt, memory://doctor/none.txt, 'nowhere://x/y']"
        checks = list(services.storage(config(f"data.inputs={inputs}")))
        assert [check.state for check in checks] == ["ok", "error", "error"]
    finally:
        system.rm("/doctor", recursive=True)
    assert not list(services.storage(config(f"data.inputs={tmp_path}", f"output={tmp_path}")))


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "SLLM_TEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert [check.state for check in services.tokens(config())] == ["error"]
    file.write_text("hidden")
    for mode, state in ((0o600, "ok"), (0o644, "warning")):
        file.chmod(mode)
        (check,) = services.tokens(config())
        assert check.state == state and "hidden" not in f"{check}"
    missing = list(services.tokens(config("ray.environment=[SLLM_TEST_TOKEN]")))[1]
    assert missing.state == "error" and missing.remedy == "export SLLM_TEST_TOKEN=..."
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(file)
