"""NCCL where all workers have CUDA, gloo where none has; a mixture is refused before work."""

from types import SimpleNamespace

import pytest
from ray.train.torch.config import _TorchBackend

from infra.cluster.process_group import ProcessGroup
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("gpus", "with_cuda", "backend"),
    [(1, [True, True], "nccl"), (1, [False, False], "gloo"), (0, [True, True], None)],
)
def test_the_backend_is_that_of_the_workers(monkeypatch, gpus, with_cuda, backend):
    started = []
    monkeypatch.setattr(_TorchBackend, "on_start", lambda self, group, config: started.append(config))
    group = SimpleNamespace(
        get_resources_per_worker=lambda: {"CPU": 1, "GPU": gpus}, execute=lambda check: with_cuda
    )
    config = ProcessGroup(timeout_s=77)
    config.backend_cls().on_start(group, config)
    assert [(one.backend, one.timeout_s) for one in started] == [(backend, 77)]


def test_a_mixture_is_refused():
    group = SimpleNamespace(
        get_resources_per_worker=lambda: {"GPU": 1}, execute=lambda check: [True, False, True]
    )
    config = ProcessGroup()
    with pytest.raises(ConfigError, match=r"workers \[1\] of 3 have no CUDA"):
        config.backend_cls().on_start(group, config)
