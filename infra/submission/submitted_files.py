"""Selection of the files of the working folder that are sent with a submitted job."""

import os
import re
from pathlib import Path

from infra.own_packages import shadowing

_KEYS = [
    *(
        "*.pem",
        "*.key",
        "*.p8",
        "*.p12",
        "*.pfx",
        "*.jks",
        "*.keystore",
        "*.kdbx",
        "*.ppk",
        "*.ovpn",
        "*.env",
    ),
    *("*.asc", "*.gpg", "*.pgp", "*.tfvars", "*.tfstate", "*.kubeconfig", "kubeconfig", "*.keytab"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "_netrc", "netrc", "*htpasswd", "pgpass.conf"),
    *("credentials", "auth_token", "secrets", "passwords"),
    *("rootkey.csv", "accesskeys.csv", "*_accesskeys.csv"),
    *(
        f"*{name}*.{suffix}"
        for name in ("credential", "secret", "password", "token", "service-account", "service_account")
        for suffix in ("json", "yaml", "yml", "toml", "ini", "cfg", "conf", "csv", "txt")
        if (name, suffix) != ("token", "json")  # of a tokenizer
    ),
]
"""Names of keys and credentials, and of folders with them, in upper or lower case."""


def _in_any_case(pattern: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in pattern)


EXCLUDES = [
    *(".git", ".venv", "venv", "/runs", "/data", "/mlruns", "/outputs", "/checkpoints", "/build", "/dist"),
    *("__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "node_modules"),
    *("*.arrow", "*.parquet", "*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx"),
    *("pytorch_model*.bin", "*.db", "*.sqlite", "*.sqlite3", "*.bz2", "*.xz", "*.lz4", "*.zst", "*.gz"),
    "!/segmenters/learned/weights/**",
    # Last, so that no other pattern includes them again: hidden files, keys and credentials are never sent.
    ".?*",
    *(_in_any_case(pattern) for pattern in _KEYS),
]
"""Patterns of files that are not sent, in the syntax of .gitignore; the patterns of .gitignore itself apply too."""

_LARGEST_SHOWN = 4


def submitted_files(folder: Path) -> dict[str, int]:
    """Names, relative to `folder`, and bytes of all files that Ray sends with a submitted job."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    found: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.stat().st_size

    folder = folder.absolute()
    _dir_travel(folder, [_get_excludes(folder, excludes_of(folder))], note, include_gitignore=True)
    return dict(sorted(found.items()))


def excludes_of(folder: Path) -> list[str]:
    """`EXCLUDES`, each link (its target lies outside the folder, or is sent under its own name), and what would hide
    our packages from the job."""
    links = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".venv")]
        links += [Path(parent, name) for name in (*folders, *files) if Path(parent, name).is_symlink()]
    escaped = [re.sub(r"([\\*?\[\]!# ])", r"\\\1", link.relative_to(folder).as_posix()) for link in links]
    return [*EXCLUDES, *(f"/{name}" for name in (*escaped, *shadowing(folder)))]


def largest_in(folder: Path) -> str:
    """The largest entries of a folder that are sent, with their sizes."""
    left_out = {pattern.strip("/") for pattern in EXCLUDES}
    sizes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file())
        for entry in folder.iterdir()
        if entry.name not in left_out
    }
    first = sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST_SHOWN]
    return ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in first)
