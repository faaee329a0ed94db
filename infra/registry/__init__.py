"""MLflow's models: found by their names, read from where MLflow keeps them, registered."""
