"""The verb `sllm deploy`: files that start our jobs elsewhere."""
