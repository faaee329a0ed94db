"""The connection to a cluster's job server. `ray` itself is imported where it is needed."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ConfigError, SllmError, first_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

T = TypeVar("T")
_ANSWER_SECONDS = 20.0
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Environment variables with a cluster's address; the first that is set counts, as in `ray job`."""


class SubmissionError(SllmError):
    """A cluster that cannot be reached, refuses the token, or does not take the job."""


def address_or_default(address: str | None, say: Callable[[str], object]) -> str:
    """`address`, unless it is None or `auto`: then that of `ADDRESS_VARIABLES`, which `say` is told.

    Raises `ConfigError` where there is none.
    """
    if address and address != "auto":
        return address
    for name in ADDRESS_VARIABLES:
        if given := os.environ.get(name):
            say(f"cluster {given}, which {name} names")
            return given
    raise ConfigError(
        "no cluster is named: give the URL of its dashboard (--address, --submit), or set it as "
        + " or ".join(ADDRESS_VARIABLES)
    )


def client_of(address: str) -> "JobSubmissionClient":
    """A client that sends the token of `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`.

    Raises `OSError` where nothing answers in 25 s.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)  # every ignored file is named, several times

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            if method == "GET":  # Ray's own waits for ever
                options.setdefault("timeout", _ANSWER_SECONDS)
            return super()._do_request(method, endpoint, **options)

    with _without_address_variables():
        return _within(_ANSWER_SECONDS + 5, lambda: Client(address))


def _within(seconds: float, make: Callable[[], T]) -> T:
    """What `make` returns or raises, if it does so in time; Ray looks up an address without a scheme for minutes."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(make())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([done], seconds).done:
        raise TimeoutError(f"nothing answers in {seconds:.0f} s")
    return done.result()


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
        line = first_line(error).rstrip(".")
        if type(error).__name__ == "AuthenticationError":
            remedy = (
                "put the cluster's token into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            )
            raise SubmissionError(f"{address} refuses the token ({line}): {remedy}") from error
        raise SubmissionError(f"cannot {task} {address}: {line}; is it the dashboard's address?") from error
