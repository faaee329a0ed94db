"""The MLflow run of a command with several jobs; theirs are below it."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator

from infra.tracking.journal import Journal
from infra.tracking.run import ActiveRun, above, below, opened
from infra.tracking.sending import Sender
from infra.tracking.store import resolve_experiment
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError


class ParentRun:
    """The run of the command that writes to the folders below `output`: one per output, however often it is started.

    It begins when the first job does, so a command that only reuses results has none. The file that is the queue of its
    operations stays in `output`, with the run's id.
    """

    def __init__(
        self, tracking: TrackingConfig, name: str, output: str, log_start: Callable[[ActiveRun], None]
    ) -> None:
        """`log_start` logs what the run shows from its beginning."""
        self._tracking, self._name, self._output, self._log_start = tracking, name, output, log_start
        self._outer = above.get()
        self.run: ActiveRun | None = None
        """The run, once it has begun."""

    def begin(self, trouble: str | None) -> ActiveRun:
        """See `Above`. Raises `ConfigError` where the store refuses."""
        if self.run is None:
            outer = self._outer.begin(trouble) if self._outer is not None else None
            journal = Journal(self._output)
            left = journal.last_run()
            create = {
                "do": "create",
                "key": left[0]["key"] if left else uuid.uuid4().hex,
                "identity": "",
                "name": self._name,
                "experiment": resolve_experiment(self._tracking.experiment),
                "ms": int(time.time() * 1000),
                "run_id": left[0].get("run_id") if left else None,
                "must_exist": False,
                **below(outer, None),
            }
            self.run = opened(self._tracking, journal, create, trouble, keeps_run=True)
            self._log_start(self.run)
        return self.run

    def end(self, status: str, error: BaseException | None = None) -> None:
        """End the run, if it has begun; else send what an earlier command could not."""
        if self.run is not None:
            self.run.end(status, error)
            self.run.close()
        elif status == "FINISHED" and Journal.exists(self._output):
            journal = Journal(self._output)
            left = journal.last_run()
            if len(left) > 1:
                if left[-1]["do"] != "end":
                    journal.append({"do": "end", "status": status, "ms": int(time.time() * 1000)})
                Sender(self._tracking, journal, None, keeps_run=True).close()


@contextlib.contextmanager
def jobs_below(parent: ParentRun) -> Iterator[ParentRun]:
    """A context in which each job has a run below `parent`, or below the run of MLFLOW_RUN_ID, where that is set."""
    token = above.set(parent)
    try:
        yield parent
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        parent.end("KILLED" if stopped else "FAILED", error)
        raise
    else:
        with contextlib.suppress(ConfigError):  # the jobs have finished
            parent.end("FINISHED")
    finally:
        above.reset(token)
