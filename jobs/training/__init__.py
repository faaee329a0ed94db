"""The verbs that train: one file per model. What they share is in `jobs/runner/training.py`."""
