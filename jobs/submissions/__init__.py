"""The verbs on submitted jobs: `sllm status`, `logs`, `stop` and `list`."""
