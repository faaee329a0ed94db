"""Paths of a configuration and of the command line: `~`, variables and URLs have one meaning.

A field of the configuration that holds a path has one of the types here, so it is resolved when the tree is
validated. Resolving a resolved path changes nothing.
"""

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:?)(/*)")
_SCHEMES = frozenset(
    (
        *(
            "abfs",
            "abfss",
            "adl",
            "az",
            "cos",
            "dbfs",
            "gcs",
            "gs",
            "hf",
            "obs",
            "oci",
            "oss",
            "r2",
            "s3",
            "s3a",
            "s3n",
        ),
        *(
            "file",
            "ftp",
            "ftps",
            "hdfs",
            "http",
            "https",
            "memory",
            "sftp",
            "smb",
            "ssh",
            "tos",
            "webdav",
            "webhdfs",
        ),
    )
)
"""Schemes of URLs. A path that begins with one of them, with a slash too few, is a mistyped URL."""
_DATASETS, _PYTHON_DOCS = "datasets:", "python-docs:"
_SQLITE = "sqlite:///"
_PATH_OPTION = re.compile(r"(.*_)?(path|folder|file|directory|dir|weights|pipeline|model)")
"""Names of options, of a segmenter or of DeepSpeed, whose values are paths (or names, which are kept)."""


class PathError(ConfigError, ValueError):
    """A path that cannot be used as it is."""


def is_url(path: str) -> bool:
    """Whether this is an fsspec URL."""
    return "://" in path


def is_mlflow_model(path: str) -> bool:
    """Whether this is MLflow's name of a model: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/NAME/latest`,
    `models:/m-ID`, or `runs:/RUN_ID`, with or without the model's name."""
    return path.startswith(("models:/", "runs:/")) and not is_url(path)


def resolved_path(given: str, relative_to: str | None = None) -> str:
    """The path or URL that `given` names: `~` is a home folder, `${NAME}` and `$NAME` are environment variables.

    Of a URL only `${NAME}` is replaced; `file:///x` is the path `/x`. A relative path stays relative to the working
    folder, or is joined to the folder `relative_to`. A name on a hub stays as it is.

    Raises `PathError` for an unset variable, an unknown user, an empty path, and a URL with a slash too few.
    """
    if not given.strip() or "\0" in given:
        raise PathError(
            f"{given!r} is not a path: it is empty" if not given.strip() else f"{given!r} is not a path"
        )
    path = _VARIABLE.sub(lambda found: _value_of(found, given), given)
    if path.lower().startswith(("file://", "local://")):
        path = path.partition("://")[2]
        if not path.startswith("/"):
            raise PathError(f"{given!r} names a host: write file:///FOLDER, or the folder alone")
    if is_url(path) or is_mlflow_model(path):
        return path
    scheme = _SCHEME.match(path)
    if scheme and scheme[1].lower() in _SCHEMES and (scheme[2] or scheme[3] == "//") and not _exists(path):
        rest = path[scheme.end() :]
        raise PathError(f"{given!r} looks like a mistyped URL: did you mean {scheme[1].lower()}://{rest}?")
    if path.startswith("~"):
        home = os.path.expanduser(path)  # noqa: PTH111 - Path's raises for an unknown user, and drops a last slash
        if home.startswith("~") and not _exists(path):
            user = path[1:].partition("/")[0]
            raise PathError(f"{given!r}: there is no user {user!r} here; a file of that name is ./{path}")
        path = home
    return path if relative_to is None else str(Path(relative_to, path))


def joined(folder: str, *names: str) -> str:
    """The path or URL of what is below a folder."""
    if is_url(folder):
        return "/".join((folder.rstrip("/"), *filter(None, names)))
    return str(Path(folder, *names))


def model_path(given: str) -> str:
    """As `resolved_path`, for a model or tokenizer, which may also be a name on the Hugging Face hub."""
    return resolved_path(given)


def fixed_part(path: str) -> str:
    """A path up to its first part with a wildcard: the folder that a glob searches."""
    if is_url(path):
        return path
    parts = Path(path).parts
    return str(Path(*itertools.takewhile(lambda part: not set("*?[") & set(part), parts)))


def local_path(given: str) -> str:
    """As `resolved_path`, for what must be on this machine. Raises `PathError` for a URL."""
    path = resolved_path(given)
    if is_url(path):
        raise PathError(f"{given!r} is a URL: name a folder or file of this machine")
    return path


def machine_path(given: str) -> str:
    """As `local_path`, for a folder of its own on each machine: `~` is resolved there."""
    path = local_path(given)
    return given if given.startswith("~") else path


def resolved_input(given: str) -> str:
    """As `resolved_path`, for an input of the corpus: the folder in `datasets:FOLDER` too."""
    if given == _PYTHON_DOCS:
        return given
    if given.startswith(_DATASETS) and len(given) > len(_DATASETS):
        return _DATASETS + resolved_path(given.removeprefix(_DATASETS))
    return resolved_path(given)


def resolved_tracking_uri(given: str) -> str:
    """As `resolved_path`, for the address of a tracking store: the file in `sqlite:///FILE` too.

    Raises `PathError` for a file that is named as if it were relative.
    """
    if given.startswith(_SQLITE) and given != "sqlite:///:memory:":
        path = resolved_path(given.removeprefix(_SQLITE))
        rooted = Path("/", path)
        if not Path(path).parent.exists() and rooted.parent.is_dir():
            raise PathError(f"{given!r} names a folder below this one: an absolute path is {_SQLITE}{rooted}")
        return _SQLITE + path
    if is_url(given):  # `file:` is MLflow's own, not a path of ours
        return _VARIABLE.sub(lambda found: _value_of(found, given), given)
    return resolved_path(given)


def resolved_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name, at any depth, with those that name a file or folder resolved."""
    return {key: _resolved_option(key, value) for key, value in options.items()}


PATH = AfterValidator(resolved_path)
"""Annotation of an argument or field that is a path or URL."""
LOCAL_PATH = AfterValidator(local_path)
"""Annotation of an argument that is a path on this machine."""
PathString = Annotated[str, PATH]
"""A path or fsspec URL."""
ModelPathString = Annotated[str, AfterValidator(model_path)]
"""The folder or fsspec URL of a model or tokenizer, or its name on the hub where one is allowed."""
MachinePathString = Annotated[str, AfterValidator(machine_path)]
"""A folder of its own on each machine; its user calls `resolved_path` there."""
InputString = Annotated[str, AfterValidator(resolved_input)]
"""An input of the corpus."""
TrackingUri = Annotated[str, AfterValidator(resolved_tracking_uri)]
"""The address of a tracking store."""
PathOptions = Annotated[dict[str, Any], AfterValidator(resolved_options)]
"""Options that may name files."""


def _resolved_option(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return resolved_options(value)
    is_path = isinstance(value, str) and value and _PATH_OPTION.fullmatch(key)
    return resolved_path(value) if is_path else value


def _value_of(found: re.Match[str], given: str) -> str:
    braced, bare = found.groups()
    if bare is not None and (is_url(given) or (bare not in os.environ and _exists(given))):
        return found[0]  # a `$` is common in queries, and possible in the name of a file
    name = braced if bare is None else bare
    if not _NAME.fullmatch(name):
        raise PathError(f"{given!r}: {found[0]} names no environment variable; write ${{NAME}}")
    if name not in os.environ:
        raise PathError(
            f"{given!r}: the environment variable {name} is not set; set it, or write the path out"
        )
    return os.environ[name]


def _exists(path: str) -> bool:
    return os.path.lexists(path)
