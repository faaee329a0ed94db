"""Errors of file systems at URLs are one line with a remedy."""

from typing import Any

import fsspec
import pytest

from infra.storage import Folder, StorageError
from pipeline.redaction import redacted
from pipeline.remote import EXTRAS, explained, file_system


@pytest.mark.parametrize("scheme", sorted(EXTRAS))
def test_a_missing_package_names_the_extra(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str, **_: Any) -> None:
        raise ImportError("Install it to access this")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(StorageError, match=rf"package for {scheme}:// is missing: pip install 'sllm\[\w+\]'"):
        Folder(f"{scheme}://bucket/x")


def test_each_extra_is_in_the_package() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= project["optional-dependencies"].keys()


def test_an_unknown_scheme_is_one_line() -> None:
    with pytest.raises(StorageError, match="'nosuch://a' cannot be used: Protocol not known: nosuch"):
        file_system("nosuch://a")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError("Forbidden"), "access is denied: check the credentials"),
        (OSError("An error occurred (AccessDenied) when calling PutObject"), "access is denied"),
        (type("NoCredentialsError", (Exception,), {})("none"), "no credentials were found; set those of s3:"),
        (ConnectionRefusedError(111, "refused"), "there is no connection: check the network"),
        (type("EndpointConnectionError", (Exception,), {})("http://x"), "there is no connection"),
        (RuntimeError("first\nsecond"), "first"),
    ],
)
def test_errors_name_the_remedy(error: BaseException, says: str) -> None:
    line = explained(error, "s3://bucket/x")
    assert line.startswith(says) and "\n" not in line and redacted(line) == line


def test_a_store_that_refuses_connections_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    folder = Folder("s3://bucket/x")
    try:
        for look in (
            folder.check_bucket,
            folder.names,
            lambda: folder.read("a"),
            lambda: folder.write("a", b""),
        ):
            with pytest.raises(
                StorageError, match="there is no connection: check the network and the endpoint"
            ):
                look()
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
