"""The console command `sllm`: from arguments to the module of a verb. It must not know verbs other than by their
table."""

from jobs.cli.import_path import set_import_path

set_import_path()  # before any other of our packages is imported

from jobs.cli.console import app, main  # noqa: E402

__all__ = ["app", "main"]
