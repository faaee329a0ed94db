"""Cores, memory, disks and GPUs of this machine."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from infra.doctor.check import Check, answer_of
from infra.workers import num_cores
from pipeline.config import Config
from pipeline.config.paths import is_url

LEAST_MEMORY_BYTES, LEAST_SHARED_BYTES = 4e9, 1e9
LOW_DISK_BYTES, LEAST_DISK_BYTES = 5e9, 5e8
IMPORT_SECONDS = 120.0


def processor() -> Check:
    """Cores and memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return Check("CPU", "ok", f"{num_cores()} cores")
    found = f"{num_cores()} cores, {memory / 1e9:.1f} GB of memory"
    if memory < LEAST_MEMORY_BYTES:
        return Check("CPU", "warning", found, "set ray.num_workers=1, or use a machine with 4 GB or more")
    return Check("CPU", "ok", found)


def shared_memory() -> Check | None:
    """The file system in memory in which Ray keeps objects; None where there is none."""
    path = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if not path.is_dir():
        return None
    free = shutil.disk_usage(path).free
    if free < LEAST_SHARED_BYTES:
        return Check(
            "shared memory", "warning", f"{free / 1e9:.2f} GB free at {path}, in which Ray keeps objects",
            "start the container with --shm-size=2g; until then Ray uses the slower disk",
        )  # fmt: skip
    return Check("shared memory", "ok", f"{free / 1e9:.1f} GB free at {path}")


def disks(config: Config) -> Iterator[Check]:
    """Free space where jobs write, and whether they may."""
    output = config.output if config.output and not is_url(config.output) else "."
    folders = {
        "disk of the output": Path(output),
        "disk of copies": Path(config.stream.cache).expanduser(),
        "disk of Ray": Path(os.environ.get("RAY_TMPDIR") or "/tmp"),  # noqa: S108 - where Ray writes
    }
    for name, folder in folders.items():
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        found = f"{free / 1e9:.1f} GB free at {folder}"
        if not os.access(there, os.W_OK):
            yield Check(name, "error", f"{there} cannot be written to", "allow it, or name another folder")
        elif free < LEAST_DISK_BYTES:
            yield Check(name, "error", found, "free some space, or name a folder on another disk")
        elif free < LOW_DISK_BYTES:
            yield Check(name, "warning", found, "checkpoints and shards may not fit: free some space")
        else:
            yield Check(name, "ok", found)


_GPUS = """
import json, torch
there = torch.cuda.is_available()
print(json.dumps({
    "torch": torch.__version__, "cuda": torch.version.cuda,
    "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if there else [],
    "gigabytes": [torch.cuda.get_device_properties(i).total_memory / 1e9 for i in range(torch.cuda.device_count())]
    if there else [],
    "bf16": there and torch.cuda.is_bf16_supported(),
}))
"""


def gpus(config: Config) -> Check:
    """The GPUs that torch can use. An error only where the configuration asks for them."""
    has_driver = shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()
    answer = answer_of(_GPUS, IMPORT_SECONDS)
    if isinstance(answer, str):
        return Check(
            "GPU",
            "error",
            f"torch cannot be imported: {answer}",
            "python -m pip install --force-reinstall torch",
        )
    build = f"torch {answer['torch']}" + (
        f", CUDA {answer['cuda']}" if answer["cuda"] else ", a build for CPUs"
    )
    if answer["gpus"]:
        memory = sum(answer["gigabytes"])
        found = f"{len(answer['gpus'])} x {answer['gpus'][0]}, {memory:.0f} GB in all; {build}"
        if config.precision == "bf16" and not answer["bf16"]:
            return Check("GPU", "warning", f"{found}; it has no bf16", "set precision=fp32")
        return Check(
            "GPU",
            "ok",
            found,
            "" if config.ray.use_gpu else "to train on it: ray.use_gpu=true precision=bf16",
        )
    if has_driver:
        remedy = (
            "install torch's build for CUDA (see pytorch.org/get-started)"
            if not answer["cuda"]
            else "see whether `nvidia-smi` works: the driver may be older than CUDA " + str(answer["cuda"])
        )
        return Check(
            "GPU",
            "error" if config.ray.use_gpu else "warning",
            f"there is one that torch cannot use; {build}",
            remedy,
        )
    if config.ray.use_gpu:
        return Check(
            "GPU", "error", f"none on this machine, and ray.use_gpu=true; {build}",
            "start the job where the GPUs are (--submit ADDRESS), or set ray.use_gpu=false",
        )  # fmt: skip
    return Check("GPU", "ok", f"none; {build}")
