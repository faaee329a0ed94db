"""How every job runs: arguments, output folder, reuse of what is finished, record, MLflow run, progress. It must
not know which verbs there are.
"""
