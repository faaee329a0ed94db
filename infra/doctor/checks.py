"""All checks, the quick ones first."""

from collections.abc import Iterator

from infra.doctor import installation, machine, services
from infra.doctor.check import Check
from pipeline.config import Config


def all_checks(config: Config) -> Iterator[Check]:
    """Each check as it is done, for jobs with this configuration. The slow ones come last: Ray is started."""
    yield installation.python()
    yield installation.sllm()
    yield from installation.packages()
    yield installation.extras()
    yield installation.text_encoding()
    yield machine.processor()
    if (shared := machine.shared_memory()) is not None:
        yield shared
    yield from machine.disks(config)
    yield from services.tokens(config)
    yield services.mlflow(config)
    yield from services.storage(config)
    yield machine.gpus(config)
    yield services.deepspeed(config)
    yield services.ray(config)
