"""Paths as workers of a cluster see them."""

from pathlib import Path

from pipeline.config import Config


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths of the folders that a job reads, since workers have other working folders.

    Hub names and URLs are unchanged.
    """

    def absolute(path: str | None) -> str | None:
        return str(Path(path).absolute()) if path is not None and Path(path).exists() else path

    models = {name: absolute(path) for name, path in config.models}
    return config.model_copy(
        update={
            "shards": tuple(str(absolute(folder)) for folder in config.shard_folders) or None,
            "models": config.models.model_copy(update=models),
            "trunk": config.trunk.model_copy(update={"path": absolute(config.trunk.path)}),
        }
    )
