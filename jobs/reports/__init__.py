"""Tables, plots and pages of what jobs found. Runs nothing."""
