"""Models as MLflow knows them: the files that make a model's folder an MLflow model, and the registry of models."""
