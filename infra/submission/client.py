"""The connection to a cluster's job server. `ray` itself is imported where it is needed."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, SllmError, first_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Environment variables with a cluster's address; the first that is set counts, as in `ray job`."""


class SubmissionError(SllmError):
    """A cluster that cannot be reached, refuses the token, or does not take the job."""


def address_or_default(address: str | None) -> str:
    """`address`, else that of `ADDRESS_VARIABLES`. Raises `ConfigError` where there is none."""
    for given in (address, *(os.environ.get(name) for name in ADDRESS_VARIABLES)):
        if given:
            return given
    raise ConfigError(
        f"no cluster is named: give --address URL (of its dashboard), or set {' or '.join(ADDRESS_VARIABLES)}"
    )


def client_of(address: str) -> "JobSubmissionClient":
    """A client that sends the token of `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)  # every ignored file is named, several times
    with _without_address_variables():
        return JobSubmissionClient(address)


@contextlib.contextmanager
def _without_address_variables() -> Iterator[None]:
    """Ray prefers these variables to the address that it is given."""
    kept = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def explained(address: str, task: str) -> Iterator[None]:
    """Raise every error but our own as a `SubmissionError` of one line: `task`, `address`, cause and remedy."""
    try:
        yield
    except SllmError:
        raise
    except Exception as error:
        line = first_line(error)
        if type(error).__name__ == "AuthenticationError":
            remedy = (
                "put the cluster's token into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            )
            raise SubmissionError(f"{address} refuses the token ({line}): {remedy}") from error
        raise SubmissionError(f"cannot {task} {address}: {line}; is it the dashboard's address?") from error
