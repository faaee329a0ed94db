"""Files at fsspec URLs: the file system of a URL, and errors of any file system in one line with a remedy.

Credentials come from the environment, or from the cloud's own chain; none is read from a configuration.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import SllmError, first_line

EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}
"""By scheme of a URL, the extra of sllm that brings its package."""
_DENIED = (
    "AccessDenied",
    "Forbidden",
    "Unauthorized",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "403",
    "401",
)
_NO_CREDENTIALS = frozenset(("NoCredentialsError", "DefaultCredentialsError", "CredentialUnavailableError"))
_NO_CONNECTION = frozenset(
    (
        *("ConnectionError", "ClientConnectionError", "EndpointConnectionError", "ConnectTimeoutError"),
        *("ReadTimeoutError", "TimeoutError", "FSTimeoutError", "ServiceRequestError", "gaierror"),
    )
)
"""Names of classes of errors, since the package that defines one need not be installed."""


class StorageError(SllmError):
    """A file cannot be read or written: no space, no permission, no connection."""


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the URL's path in it. Raises `StorageError` where its package is missing, or the
    URL cannot be used."""
    try:
        return fsspec.core.url_to_fs(url)
    except Exception as error:  # each file system has errors of its own
        raise StorageError(f"{url!r} cannot be used: {explained(error, url)}") from error


def text_at(path: str) -> str:
    """The text, in UTF-8, of a local file or one at a URL. Raises `StorageError` for a URL that cannot be read,
    `OSError` and `UnicodeDecodeError`."""
    if "://" in path:
        return read_url(path).decode("utf-8-sig")
    return Path(path).read_text(encoding="utf-8-sig")


def read_url(url: str) -> bytes:
    """The bytes of one small file. Raises `StorageError` where it cannot be read."""
    system, path = file_system(url)
    try:
        found: bytes = system.cat_file(path)
        return found
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {url}: correct the URL") from error
    except Exception as error:
        raise StorageError(f"{url} cannot be read: {explained(error, url)}") from error


def explained(error: BaseException, url: str) -> str:
    """Why a file system failed, and a remedy where one is known, on one line."""
    scheme = url.partition("://")[0].rpartition("::")[2].lower()
    names = {kind.__name__ for one in _causes(error) for kind in type(one).__mro__}
    line = first_line(error)
    if isinstance(error, ImportError):
        extra = EXTRAS.get(scheme)
        remedy = f"pip install 'sllm[{extra}]'" if extra else "install the package that it names"
        return f"the package for {scheme}:// is missing: {remedy} ({line})"
    if names & _NO_CREDENTIALS:
        return f"no credentials were found; set those of {scheme}:// in the environment ({line})"
    if "PermissionError" in names or any(word in line for word in _DENIED):
        return f"access is denied: check the credentials in the environment, and what they allow ({line})"
    if names & _NO_CONNECTION:
        return f"there is no connection: check the network and the endpoint ({line})"
    return line


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
