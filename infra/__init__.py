"""Implementations of the protocols of `pipeline` on Ray, DeepSpeed, MLflow and file systems. It must not know `jobs`,
and has no algorithms on text or models.
"""
