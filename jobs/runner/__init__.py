"""The common part of all jobs: arguments, output folder, reuse of finished work, record, MLflow run, progress. It must
not know the verbs.
"""
