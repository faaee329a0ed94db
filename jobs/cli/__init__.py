"""The console command `sllm`: arguments in, a verb's module out. It knows the verbs by their table alone."""

from jobs.cli.console import app, main

__all__ = ["app", "main"]
