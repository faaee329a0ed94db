"""MLflow: one run per job, its metrics and parameters, and the search for runs."""
