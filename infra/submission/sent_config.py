"""The configuration that a submitted job runs with: what was resolved where it was submitted, without secrets."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from pipeline.config import Config, load_config
from pipeline.config.paths import resolved_path
from pipeline.errors import ConfigError
from pipeline.redaction import is_secret, redacted
from pipeline.remote import text_at

NAME = "sllm-submitted.yaml"
"""Its file in the job's working folder."""
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def sent_config(config: Config, path: str | None, overrides: Sequence[str]) -> str:
    """The YAML of `config`, which is that of the file `path` with `overrides`, for another machine.

    Paths and variables are resolved, but a value with a secret in it is sent as it was written, with `${NAME}`, which
    the job resolves. Raises `ConfigError` for a secret that is written out.
    """
    tree = config.model_dump(mode="json")
    secrets = [text for key, text in _texts(tree) if _is_secret(key, text)]
    if secrets:
        written = "\n".join([*overrides, "" if path is None else text_at(resolved_path(path))])
        names = {name for name in _VARIABLE.findall(written) if os.environ.get(name)}
        used = [name for name in names if any(os.environ[name] in text for text in secrets)]
        with _unresolved(used):
            tree = _without_secrets(tree, load_config(path, list(overrides)).model_dump(mode="json"))
    for key, text in _texts(tree):
        if _is_secret(key, text):
            raise ConfigError(
                f"{redacted(f'{key}={text}')}: a secret is not sent with a submitted job: write ${{VARIABLE}} instead, "
                "and set that variable here and on the cluster"
            )
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _is_secret(key: str, text: str) -> bool:
    return is_secret(text) or is_secret(f"{key}={text}")


def _texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a tree, each with the last name on its way."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, child in tree.items():
            yield from _texts(child, str(name))
    elif isinstance(tree, list):
        for child in tree:
            yield from _texts(child, key)


def _without_secrets(tree: Any, written: Any, key: str = "") -> Any:
    """`tree`, with the strings of `written` in place of secrets."""
    if isinstance(tree, dict):
        return {name: _without_secrets(child, written[name], str(name)) for name, child in tree.items()}
    if isinstance(tree, list):
        return [_without_secrets(child, other, key) for child, other in zip(tree, written, strict=True)]
    return written if isinstance(tree, str) and _is_secret(key, tree) else tree


@contextlib.contextmanager
def _unresolved(names: Sequence[str]) -> Iterator[None]:
    """A context in which `${NAME}` stands for itself."""
    before = {name: os.environ[name] for name in names}
    os.environ.update({name: f"${{{name}}}" for name in names})
    try:
        yield
    finally:
        os.environ.update(before)
