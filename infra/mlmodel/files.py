"""The files that make the folder of a trained model an MLflow model, which `mlflow models serve -m FOLDER` serves.

They are a pure function of the model's files and of the versions of the packages: no times and no random ids.
"""

import json
from importlib import metadata
from typing import Any

import yaml

from infra.storage import Folder
from pipeline.config import GenerateConfig
from pipeline.unique_keys import read_json

MLMODEL_NAME = "MLmodel"
_LOADER = "infra.mlmodel.pyfunc_model"
_PYTHON = "3.11"
"""The oldest version on which sllm runs; the same on every machine."""
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
_REQUIREMENTS, _PYTHON_ENV = "requirements.txt", "python_env.yaml"
_PINNED = ("mlflow", "sllm", "torch", "transformers")
_EXAMPLES = {"prompt": "The function returns a list. ", "sentences": "The function returns a list."}
_SAMPLING = {"temperature": "double", "top_p": "double", "seed": "long"}
_PARAMS = {
    "sllm": {"max_sentences": "long", "max_tokens": "long", **_SAMPLING},
    "lm": {"max_tokens": "long", **_SAMPLING},
    "vae": _SAMPLING,
}
"""By kind of model, the options of `generate` that a request may set, with MLflow's types."""


def write_mlmodel(output: str) -> None:
    """Write the files into the folder or URL of a model. Raises `StorageError`."""
    folder = Folder(output)
    for name, content in mlmodel_files(folder).items():
        folder.write(name, content)


def mlmodel_files(folder: Folder) -> dict[str, bytes]:
    """Names and contents of the files for the model in a folder; none where it is no text model of ours, or has code of
    its own, which the loader does not run. Raises `StorageError`."""
    sizes = folder.sizes()
    content = folder.read("config.json")
    if content is None or "tokenizer.json" not in sizes:
        return {}
    config = read_json(content, "config.json")
    if "auto_map" in config:
        return {}
    kind = {"sentence_vae": "vae", "sllm": "sllm"}.get(config["model_type"], "lm")
    column = "sentences" if kind == "vae" else "prompt"
    example = {"columns": [column], "data": [[_EXAMPLES[column]]]}
    requirements = [f"{name}=={version}" for name in _PINNED if (version := _version(name))]
    python_env = {"python": _PYTHON, "build_dependencies": ["pip"], "dependencies": [f"-r {_REQUIREMENTS}"]}
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors") and "/" not in name)
    mlmodel = {
        "flavors": {
            "python_function": {
                "loader_module": _LOADER,
                "python_version": _PYTHON,
                "env": {"virtualenv": _PYTHON_ENV},
            }
        },
        "metadata": _metadata(kind, config),
        "mlflow_version": _version("mlflow"),
        "model_size_bytes": weights,
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps([{"type": "string", "name": column, "required": True}]),
            "outputs": json.dumps([{"type": "string", "name": "text", "required": True}]),
            "params": json.dumps([_param(name, kind_of) for name, kind_of in _PARAMS[kind].items()]),
        },
    }
    return {
        _REQUIREMENTS: "".join(f"{line}\n" for line in requirements).encode(),
        _PYTHON_ENV: _yaml(python_env),
        _EXAMPLE: _json(example),
        _SERVING_EXAMPLE: _json({"dataframe_split": example}),
        MLMODEL_NAME: _yaml(mlmodel),
    }


def _metadata(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """What the model was trained on, as far as its own configuration says so."""
    vae = config if kind == "vae" else config.get("vae_config", {})
    found = {
        "sllm.kind": kind,
        "tokenizer.digest": config.get("tokenizer_digest") or vae.get("tokenizer_digest"),
        "segmenter": (vae.get("segmenter") or {}).get("name"),
    }
    return {name: value for name, value in found.items() if value}


def _param(name: str, kind: str) -> dict[str, Any]:
    default = GenerateConfig.model_fields[name].default
    return {"name": name, "default": default, "shape": None, "type": kind}


def _version(package: str) -> str | None:
    """The installed version, without a local part such as `+cpu`, which no index has."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:  # code that was submitted, not installed
        return None


def _yaml(tree: Any) -> bytes:
    return str(yaml.safe_dump(tree, sort_keys=True, allow_unicode=True)).encode()


def _json(tree: Any) -> bytes:
    return f"{json.dumps(tree, ensure_ascii=False)}\n".encode()
