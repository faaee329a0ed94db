"""Submitted jobs over Ray's Jobs API: the connection, and what the cluster knows of each job."""
