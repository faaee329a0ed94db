"""One try: a job, a moment, a fault, and the verdict."""

import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults import judge
from tests.faults.histories import finished_units, names
from tests.faults.jobs import CHECKPOINT_EVERY, STEPS, Job
from tests.faults.processes import send, title, wait_for
from tests.faults.world import BUCKET, LIMITS, World

OF_RAY = (
    *("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::SPILL", "ray::RESTORE"),
    *("ray::TrainController", "ray::RayTrainWorker", "ray::execute", "ray::PlacementGroupCleaner"),
    *(
        "ray::SynchronizationActor",
        "ray::DatasetManager",
        "ray::PreemptionWatcher",
        "ray::_Autoscaling",
        "ray::Autoscaling",
    ),
)
"""Titles of Ray's own processes; other actors are ours."""
RANK, CONTROLLER = ("ray::RayTrainWorker", "ray::execute"), ("ray::TrainController",)


class MissedError(Exception):
    """The job ended before the fault."""


@dataclass(frozen=True)
class Moment:
    """When the fault strikes."""

    progress: float
    """Share of the job's shards or checkpoints that are there; below 0: while the job starts."""
    seconds: float
    """Seconds after that."""

    @classmethod
    def draw(cls, chance: random.Random, undisturbed_seconds: float) -> "Moment":
        """One in six strikes while the job starts."""
        progress = chance.uniform(-0.2, 1.0)
        return cls(progress, chance.uniform(0, 1.0 if progress >= 0 else 0.4 * undisturbed_seconds))


@dataclass(frozen=True)
class Case:
    """A fault and the job that it strikes."""

    name: str
    what: str
    verb: str
    flow: Callable[["Try"], None]
    overrides: tuple[str, ...] = ()
    place: str = "folder"
    """Where the job writes: `folder`, `bucket` or `disk` (a small one)."""
    on_server: bool = False
    """Whether its MLflow store is a server."""


class Try:
    """What a case's function acts on."""

    def __init__(self, world: World, case: Case, moment: Moment, folder: Path, chance: random.Random) -> None:
        self.world, self.case, self.moment, self.chance = world, case, moment, chance
        self.folder = folder
        self.wrong: list[str] = []
        self.notes: list[str] = []
        self._finished: dict[str, int] = {}
        self._stopped: list[int] = []
        folder.mkdir(parents=True)
        self.disk = folder / "disk"
        output = str(folder / "out")
        if case.place == "bucket":
            assert world.bucket
            output = f"s3://{BUCKET}/{folder.name}/out"
        elif case.place == "disk":
            self.disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", self.disk], check=True)
            output = str(self.disk / "out")
        uri = world.tracking_server if case.on_server else None
        self.job: Job = world.job(case.verb, folder, output, *case.overrides, tracking_uri=uri)

    # The job.

    def begin(self) -> None:
        """Start it."""
        self.job.start()

    def end(self) -> None:
        """Wait for its end: it must succeed."""
        code = self.job.wait(LIMITS[self.case.verb])
        if code is None:
            self.wrong.append("it hangs")
        elif code != 0:
            said, fault = judge.line_of_error(self.job.log())
            self.wrong.append(f"exit code {code}: {said[:300]}{f' ({fault})' if fault else ''}")

    def end_or_fail(self) -> bool:
        """Wait for its end -> whether it succeeded; if not, one line must say why."""
        code = self.job.wait(LIMITS[self.case.verb])
        if code is None:
            self.wrong.append("it hangs")
        elif code != 0:
            said, fault = judge.line_of_error(self.job.log())
            self.notes.append(f"exit code {code}: {said[:300]}")
            if fault:
                self.wrong.append(f"it fails with {fault}: {said[:300]}")
        return code == 0

    def again(self) -> None:
        """The same command again: it must succeed, and do no finished work unit again."""
        if self.case.verb == "prepare" and self.case.place != "bucket":
            self._finished = finished_units(self.job.place.output)
        self.job.start()
        self.end()
        place = Path(self.job.place.output)
        for name, written in self._finished.items():
            if not (place / name).exists() or (place / name).stat().st_mtime_ns != written:
                self.wrong.append(f"{name} was finished, and made again")
                break

    def reach(self, at_least: float = -1.0) -> None:
        """Wait for the moment. Raises `MissedError` where the job ends before."""
        share = max(self.moment.progress, at_least)
        while share >= 0 and self.progress() < share:
            if not self.job.is_running():
                raise MissedError
            time.sleep(0.05 if self.case.place != "bucket" else 0.3)
        time.sleep(self.moment.seconds)
        if not self.job.is_running():
            raise MissedError

    def progress(self) -> float:
        """Share of the undisturbed run's shards, or of its checkpoints, that there are."""
        place = self.job.place.output
        if self.case.verb == "prepare":
            shards = self.world.undisturbed("prepare").shards
            assert shards is not None
            return sum(name.endswith(".arrow") for name in names(place)) / len(shards.digests)
        self.job.seen |= checkpoint_names(place)
        return len(self.job.seen) / (STEPS // CHECKPOINT_EVERY)

    # Faults.

    def victim(self, titles: tuple[str, ...] | None = None) -> int:
        """A process of the cluster with one of these titles, or of an actor of ours; it may have to start first."""
        found: list[int] = []

        def look() -> bool:
            running = self.world.cluster.processes(*(titles or ("ray::",)))
            found[:] = [pid for pid in running if titles is not None or not title(pid).startswith(OF_RAY)]
            return bool(found) or not self.job.is_running()

        wait_for(look, 120)
        if not found:
            raise MissedError
        pid = self.chance.choice(found)
        self.notes.append(f"strikes {title(pid)[:40]} ({pid})")
        return pid

    def stop(self, pid: int) -> None:
        """SIGSTOP; the process is killed after the try."""
        send(pid, signal.SIGSTOP)
        self._stopped.append(pid)

    def no_memory(self, pid: int) -> None:
        """The process gets no more memory than it has."""
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def fill_disk(self) -> None:
        """Leave no byte on the small disk."""
        with suppress(OSError), (self.disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free_disk(self) -> None:
        """Make room again."""
        (self.disk / "ballast").unlink()

    def flip_bit(self, file: Path) -> None:
        """Flip a bit of a file, anywhere."""
        content = bytearray(file.read_bytes())
        position, bit = self.chance.randrange(len(content)), self.chance.randrange(8)
        content[position] ^= 1 << bit
        file.write_bytes(content)
        self.notes.append(f"bit {bit} of byte {position} of {len(content)} in {file.parent.name}/{file.name}")

    def training_is_refused(self) -> None:
        """Training on the shards of this try fails, with one line."""
        overrides = (
            *(f"shards={self.job.place.output}", "launcher=local", "lm.train.steps=2"),
            "lm.train.warmup_steps=1",
        )
        job = self.world.job("train-lm", self.folder, str(self.folder / "lm"), *overrides)
        job.start()
        code = job.wait(LIMITS["train-lm"])
        said, fault = judge.line_of_error(job.log())
        if code == 0:
            self.wrong.append("it trains on what is damaged")
        elif code is None or fault:
            self.wrong.append(f"training on what is damaged: {fault or 'it hangs'}: {said[:300]}")
        else:
            self.notes.append(f"training says: {said[:200]}")

    # The end.

    def verdict(self) -> judge.Verdict:
        """What the histories show."""
        undisturbed = self.world.undisturbed(self.case.verb)
        if undisturbed.shards is not None:
            return judge.judge_prepare(self.job.place, undisturbed.shards)
        assert undisturbed.runs is not None
        return judge.judge_training(self.job.place, undisturbed.runs, undisturbed.weights)

    def close(self) -> None:
        """End what is left of the try."""
        if self.job.started and self.job.is_running():
            self.job.kill()
        for pid in self._stopped:
            send(pid, signal.SIGKILL)
        if self.disk.is_mount():
            with suppress(OSError):
                shutil.copytree(self.disk, self.folder / "disk-content", dirs_exist_ok=True)
            subprocess.run(["umount", "--lazy", self.disk], check=False)


def checkpoint_names(place: str) -> set[str]:
    """Names of the checkpoints in a folder or bucket, whole or not."""
    if place.startswith("http"):
        parts = (name.split("/") for name in names(place))
        found = {part[1] for part in parts if part[0] == "checkpoints" and len(part) > 2}
    else:
        found = {path.name for path in Path(place, "checkpoints").glob("*")}
    return {name for name in found if name.startswith(("step-", "checkpoint_"))}


def checkpoints(place: str) -> list[Path]:
    """Folders of checkpoints, the oldest first."""
    found = [Path(place, "checkpoints", name) for name in checkpoint_names(place)]
    times: dict[Path, int] = {}
    for path in found:
        with suppress(OSError):
            times[path] = path.stat().st_mtime_ns
    return sorted(times, key=lambda path: times[path])
