"""Implementations of the protocols of `pipeline` on Ray, DeepSpeed, MLflow and file systems. It must not know `jobs`,
and has no algorithms on text or models.
"""

import fsspec

for _scheme in ("http", "https"):  # in every process, since workers read models too
    fsspec.register_implementation(
        f"mlflow+{_scheme}", "infra.registry.artifact_files.ArtifactFiles", clobber=True
    )
