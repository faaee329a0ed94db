"""A folder of checkpoints: the newest whole one is found, one is added, old ones are removed."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.checkpoints.local_store import STEP_NAME, LocalStore, Written
from infra.checkpoints.ranks import Alone, Ranks, of_rank_0
from infra.checkpoints.url_store import UrlStore
from infra.storage import Folder, put_model
from pipeline.config.paths import is_url
from pipeline.errors import SllmError, TrainingError
from pipeline.training.checkpoint import MODEL_FOLDER, Checkpoint, checksums_text, verify, writing

log = logging.getLogger("sllm")


class CheckpointFolder:
    """A folder of checkpoints at a path or an fsspec URL. Only one run writes there at a time."""

    def __init__(self, url: str) -> None:
        folder = Folder(url)
        self.url = folder.url
        """Absolute, so that it is the same in every process."""
        self._store = UrlStore(folder) if is_url(self.url) else LocalStore(Path(self.url))

    def names(self) -> list[str]:
        """Names of all checkpoints, newest first; damaged ones too."""
        return [name for _, name in sorted(self._store.found(), reverse=True)]

    def newest_step(self) -> int | None:
        """Steps of the newest checkpoint, which may be damaged; None where there is none."""
        return max((step for step, _ in self._store.found()), default=None)

    @contextlib.contextmanager
    def newest(
        self, ranks: Ranks | None = None, warn: Callable[[str], None] = log.warning
    ) -> Iterator[Path | None]:
        """A local folder with the newest checkpoint, of any launcher; None where there is none.

        Its files are the ones that were written. From a URL each node fetches it once, and removes it at the end of
        the context. A damaged one is passed over with a warning. Raises `TrainingError` where all are damaged (training
        starts anew only with --force), `StorageError` where the store does not answer.
        """
        ranks = ranks or Alone()
        names = of_rank_0(ranks, self.names)
        errors: list[str] = []

        def say_passed() -> None:
            for error in errors if ranks.rank == 0 else []:
                warn(f"warning: passed over: {error}")

        for name in names:
            with self.opened(name, ranks) as opened:
                if isinstance(opened, Path):
                    say_passed()
                    yield opened
                    return
            errors.append(opened)
        if any(STEP_NAME.fullmatch(name) for name in names):
            raise TrainingError(errors[0])
        say_passed()
        yield None

    @contextlib.contextmanager
    def opened(self, name: str, ranks: Ranks | None = None) -> Iterator[Path | str]:
        """A local folder of the same name with this checkpoint, checked; the text of the error where it is damaged.

        Each rank checks its share of the files.
        """
        ranks = ranks or Alone()
        with self._local_copy(name, ranks) as (folder, share):
            error: str | None = None
            try:
                verify(folder, share=share)
                if ranks.rank == 0:
                    Checkpoint(folder)
            except TrainingError as caught:
                error = str(caught).replace(str(folder), f"{self.url}/{name}")
            found = [one for one in ranks.gather(error) if one is not None]
            yield found[0] if found else folder

    @contextlib.contextmanager
    def _local_copy(self, name: str, ranks: Ranks) -> Iterator[tuple[Path, tuple[int, int]]]:
        """The folder with a checkpoint, on each node, and the share of its files that this rank checks."""
        if isinstance(self._store, LocalStore):
            yield self._store.folder / name, (ranks.rank, ranks.world_size)
            return
        fetched: Path | SllmError | None = None
        temporary = tempfile.mkdtemp(prefix=self._store.temporary) if ranks.local_rank == 0 else None
        try:
            if temporary is not None:
                fetched = Path(temporary, name)
                fetched.mkdir()
                try:
                    self._store.fetch(name, fetched)
                except SllmError as error:
                    fetched = error
            gathered = ranks.gather((ranks.node, ranks.local_rank, fetched))
            for _, _, one in gathered:
                if isinstance(one, SllmError):
                    raise one
            here = [(local_rank, one) for node, local_rank, one in gathered if node == ranks.node]
            yield next(one for _, one in here if one is not None), (ranks.local_rank, len(here))
            ranks.gather(None)  # each rank of the node has read it
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def save(self, step: int, write: Callable[[Path], None], keep: int, ranks: Ranks | None = None) -> None:
        """Save the checkpoint of a step: `write` puts this rank's files into a folder.

        All ranks return when it is whole, and all but the newest `keep` are removed; or they raise the first error.
        """
        ranks = ranks or Alone()
        name = f"step-{step:09d}"
        written: Written = {}
        state = b""
        error: SllmError | None = None
        try:
            with self._store.writing(name):
                written, state = self._store.put(name, write, ranks.rank)
        except SllmError as caught:
            error = caught
        except Exception as caught:  # the other ranks wait for this one
            error = TrainingError(
                f"a checkpoint could not be written: {type(caught).__name__}: {caught}"
            ).with_traceback(caught.__traceback__)
        outcomes = ranks.gather((written, error))
        error = next((error for _, error in outcomes if error is not None), None)

        def complete() -> None:
            if error is not None:
                with contextlib.suppress(SllmError):
                    self._remove_unfinished()
                raise error
            with self._store.writing(name):
                files = {file: of for written, _ in outcomes for file, of in written.items()}
                sums = checksums_text({file: digest for file, (digest, _) in files.items()})
                self._store.complete(name, files, sums.encode(), state)
                self.prune(step, keep)

        of_rank_0(ranks, complete)

    def prune(self, step: int, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints up to this step, and what killed runs left.

        Later ones are removed too: training passed over them, since they are damaged.
        """
        found = sorted(self._store.found(), reverse=True)
        kept = [name for at, name in found if at <= step and self._store.is_whole(name)][:keep]
        for _, name in found:
            if name not in kept:
                self._store.remove(name)
        self._remove_unfinished()

    def remove_temporary(self, ranks: Ranks) -> None:
        """Remove what earlier attempts of this run, which were killed, left on this node: before it reads or writes."""
        if isinstance(self._store, UrlStore) and ranks.local_rank == 0:
            self._store.remove_temporary()

    def clear(self) -> None:
        """Remove all checkpoints: the files that a job wrote."""
        for name in self.names():
            self._store.remove(name)
        self._remove_unfinished()

    def keep_model(self, output: str) -> None:
        """Copy the model in the newest checkpoint to `output`, a path or URL.

        Raises `TrainingError` where there is no checkpoint, or its model is damaged.
        """
        name = next(iter(self.names()), None)
        if name is None:
            raise TrainingError("training ended without a checkpoint; see the logs of the Ray workers")
        with tempfile.TemporaryDirectory(prefix="sllm-model-") as temporary:
            if isinstance(self._store, LocalStore):
                folder = self._store.folder / name
            else:
                folder = Path(temporary)
                self._store.fetch(name, folder, f"{MODEL_FOLDER}/")
            verify(folder, f"{MODEL_FOLDER}/")
            if not (folder / MODEL_FOLDER).is_dir():
                raise TrainingError(f"{self.url}/{name} has no model: run the same command again")
            with contextlib.nullcontext() if is_url(output) else writing(Path(output)):
                put_model(folder / MODEL_FOLDER, Folder(output))

    def _remove_unfinished(self) -> None:
        for name in self._store.unfinished():
            self._store.remove(name)
