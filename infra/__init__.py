"""What carries it: Ray, DeepSpeed, MLflow, storage."""
