"""Python, sllm and the packages that it needs."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from infra.doctor.check import Check
from infra.doctor.tested import TESTED
from infra.own_packages import ROOT
from infra.provenance import git_commit

OLDEST_PYTHON = (3, 11)
_FOR_DEVELOPMENT = {"dev", "docs"}
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")


def python() -> Check:
    """The interpreter."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("Python", "error", found, "install Python 3.11 or newer, and sllm in it")
    return Check("Python", "ok", found)


def sllm() -> Check:
    """The version of sllm, where it is, and its commit in a checkout."""
    try:
        version = metadata.version("sllm")
    except metadata.PackageNotFoundError:
        return Check(
            "sllm", "error", f"runs from {ROOT}, but is not installed", f"python -m pip install -e {ROOT}"
        )
    commit = git_commit()
    return Check("sllm", "ok", f"{version} at {ROOT}{f', commit {commit}' if commit else ''}")


def packages() -> Iterator[Check]:
    """The packages that sllm needs: one check for all that fit, and one for each that does not."""
    needed = [one for one in _requirements() if _extra_of(one) is None]
    fit, other = [], []
    for one in needed:
        version = _version(one.name)
        if version is None:
            yield Check(one.name, "error", "not installed", f"python -m pip install '{_bare(one)}'")
        elif not one.specifier.contains(version, prereleases=True):
            yield Check(
                one.name,
                "error",
                f"{version}, but sllm needs {_bare(one)}",
                f"python -m pip install '{_bare(one)}'",
            )
        else:
            fit.append(one)
            tested = TESTED.get(one.name.lower())
            if tested is not None and _release(version) != _release(tested):
                other.append(f"{one.name} {version} (tested: {tested})")
    if fit:
        found = (
            f"{len(fit)} of {len(needed)} as needed, {len(fit) - len(other)} of them in the tested version"
        )
        remedy = f"nothing, unless something fails; others than tested: {', '.join(other)}" if other else ""
        yield Check("packages", "ok", found, remedy)


def extras() -> Check:
    """Which optional parts are installed."""
    by_extra: dict[str, list[Requirement]] = {}
    for one in _requirements():
        if (extra := _extra_of(one)) is not None and one.name.lower() != "sllm":
            by_extra.setdefault(extra, []).append(one)
    there = {extra for extra, needed in by_extra.items() if all(_version(one.name) for one in needed)}
    there -= _FOR_DEVELOPMENT
    missing = sorted(by_extra.keys() - there - _FOR_DEVELOPMENT)
    found = f"installed: {', '.join(sorted(there)) or 'none'}"
    remedy = f"for {', '.join(missing)}: python -m pip install 'sllm[NAME]'" if missing else ""
    return Check("extras", "ok", found, remedy)


def text_encoding() -> Check:
    """Whether texts and file names are UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") == "utf8":
        return Check("text", "ok", "file names and output are UTF-8")
    language = os.environ.get("LC_ALL") or os.environ.get("LANG") or "not set"
    return Check("text", "warning", f"{encoding} (LANG is {language})", "export LC_ALL=C.UTF-8")


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(one) for one in metadata.requires("sllm") or ()]
    except metadata.PackageNotFoundError:
        return []


def _extra_of(requirement: Requirement) -> str | None:
    found = _EXTRA.search(str(requirement.marker or ""))
    return found[1] if found else None


def _bare(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _release(version: str) -> str:
    """The version without what names a build, such as `+cpu`."""
    return version.partition("+")[0]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
