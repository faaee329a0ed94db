"""Data sets of the `datasets` library."""

import functools
from pathlib import Path
from typing import Any

from pipeline.corpus.sources import Source
from pipeline.errors import CorpusError


@functools.lru_cache(maxsize=4)
def load_dataset(source: Source) -> Any:
    """The `datasets.Dataset` of `datasets:NAME_OR_FOLDER[:SPLIT]` (split `train` where none is named).

    Raises `CorpusError` where there is no such data set or split.
    """
    import datasets

    name, _, split = source.path.partition(":")
    try:
        if (Path(name) / "dataset_info.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return loaded[split or "train"] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CorpusError(f"input {source.name!r} cannot be loaded: {reason}") from error
