"""The errors of sllm: each names what is wrong, where, and the remedy."""


class SllmError(Exception):
    """Base of all errors that a user can fix; the console prints the message in one line, without a traceback."""

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.split()))  # messages of libraries may have several


class ConfigError(SllmError):
    """A configuration that cannot be used: unknown key, bad value, missing file."""


class CorpusError(SllmError):
    """Input text that cannot be read, or too much of which had to be rejected."""


class ShardError(SllmError):
    """Shards that are damaged, incomplete, or made with another tokenizer, segmenter or format."""


class ModelError(SllmError):
    """A model folder that is missing, or does not fit the shards or the configuration."""


class TrainingError(SllmError):
    """A training run that cannot continue: it diverged, or a checkpoint does not fit."""


class TrackingError(SllmError):
    """MLflow does not take a job that requires it."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
