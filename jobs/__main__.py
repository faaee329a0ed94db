"""`python -m jobs VERB ...` is `sllm VERB ...`, for where the console command is not installed."""

from jobs.cli import main

main()
