"""The training loop over two protocols, `Engine` and `Runtime`, and checkpoints. It must not know who launches it."""
