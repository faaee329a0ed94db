"""The training loop over two protocols, `Engine` and `Runtime`, and checkpoints. Knows nothing of who launches it."""
