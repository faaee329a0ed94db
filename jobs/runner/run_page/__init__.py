"""What the page of a run shows in MLflow: parameters, tags, a description, files. It must not know the store."""
