"""The console command `sllm`: from arguments to the module of a verb. It must not know verbs other than by their
table."""

from jobs.cli.console import app, main

__all__ = ["app", "main"]
