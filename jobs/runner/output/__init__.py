"""The output of a job: a folder or file, on this machine or at a URL; what may be written there, and what is there."""
