"""The verbs of the first hour: `sllm doctor` looks whether jobs can run here, `sllm init` writes a configuration."""
