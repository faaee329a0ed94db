"""A trained model's folder as an MLflow model: the files that make it one, and what MLflow loads from it."""
