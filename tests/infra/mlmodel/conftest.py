"""Small trained models as MLflow models, and MLflow's loader of models."""

import shutil
import warnings
from pathlib import Path

import pytest

from infra.mlmodel.files import write_mlmodel

TRAINED = Path(__file__).parents[2] / "artifacts" / "first"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with `lm`, `vae` and `sllm`, with the files of an MLflow model and without records."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("lm", "vae", "sllm"):
        shutil.copytree(TRAINED / kind, root / kind, ignore=shutil.ignore_patterns("job.json", "checkpoints"))
        write_mlmodel(str(root / kind))
    return root


@pytest.fixture(scope="session")
def pyfunc():
    """`mlflow.pyfunc`, which warns when it is imported."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.pyfunc
    return mlflow.pyfunc
