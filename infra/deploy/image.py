"""The image of every node."""

EXTRAS = ("s3", "gcs", "azure", "filters", "lora", "postgres")
"""Optional parts of the package that the image has."""
PACKAGES = ("segmenters", "pipeline", "infra", "jobs")
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")

DOCKERFILE = f"""\
# The image of every node. From the root of a checkout:
#   docker build -f FOLDER/Dockerfile -t IMAGE --build-arg SLLM_GIT_COMMIT=$(git rev-parse HEAD) .
# VARIANT=cuda (the default): the package index's torch, which on x86-64 brings CUDA with it; such an image also serves
# nodes without GPUs. VARIANT=cpu: torch without CUDA, gigabytes smaller, from the index that TORCH_INDEX_URL names.
# BASE_IMAGE: another image with Python 3.11, such as one with nvcc for DeepSpeed's own kernels.
ARG BASE_IMAGE=python:3.11-slim
FROM ${{BASE_IMAGE}}
ARG VARIANT=cuda
ARG TORCH_INDEX_URL=
ARG EXTRAS={",".join(EXTRAS)}

# wget: KubeRay's probes; compilers: kernels that Triton and DeepSpeed build at run time.
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends wget gcc g++ \\
    && rm -rf /var/lib/apt/lists/* \\
    && useradd --create-home --uid 1000 ray \\
    && mkdir /data /artifacts \\
    && chown ray:ray /data /artifacts

WORKDIR /app
COPY {" ".join(FILES)} ./
RUN case "$VARIANT" in \\
      cuda) ;; \\
      cpu) pip install --no-cache-dir --index-url "${{TORCH_INDEX_URL:?the cpu variant needs it}}" \\
             $(grep -E '^torch==' constraints.txt) ;; \\
      *) echo "VARIANT is cuda or cpu" >&2; exit 2 ;; \\
    esac
{chr(10).join(f"COPY {name} {name}" for name in PACKAGES)}
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

# Last, since it changes with each commit.
ARG SLLM_GIT_COMMIT=
LABEL org.opencontainers.image.revision=$SLLM_GIT_COMMIT
ENV SLLM_GIT_COMMIT=$SLLM_GIT_COMMIT RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/ray
"""
DOCKERIGNORE = "\n".join(["*", *(f"!{name}" for name in (*FILES, *PACKAGES)), "**/__pycache__"]) + "\n"
