"""The faults: one small function each, and the table of them."""

import signal
import time
from pathlib import Path

from tests.faults.cluster import NODES
from tests.faults.processes import send, wait_for
from tests.faults.tries import CONTROLLER, RANK, Case, Try, checkpoints


def kill_actor(t: Try) -> None:
    """An actor of ours dies; the job must not."""
    t.begin()
    t.reach()
    send(t.victim(), signal.SIGKILL)
    t.end()


def kill_rank(t: Try) -> None:
    """A rank dies."""
    t.begin()
    t.reach()
    send(t.victim(RANK), signal.SIGKILL)
    t.end()


def kill_controller(t: Try) -> None:
    """Ray's train controller dies."""
    t.begin()
    t.reach()
    send(t.victim(CONTROLLER), signal.SIGKILL)
    t.end()


def kill_driver(t: Try) -> None:
    """The command itself is killed, and given again."""
    t.begin()
    t.reach()
    t.job.kill()
    t.again()


def kill_node(t: Try) -> None:
    """A machine is lost, and comes back some seconds later."""
    t.begin()
    t.reach()
    t.world.cluster.kill_node(node := t.chance.choice(NODES))
    t.notes.append(f"loses node {node}")
    time.sleep(t.chance.uniform(0, 4))
    t.world.cluster.start()
    t.end()


def kill_head(t: Try) -> None:
    """All machines are lost with the driver; a new cluster starts, and the job again, as KubeRay does."""
    t.begin()
    t.reach()
    t.world.cluster.kill()
    t.job.kill()
    t.world.cluster.start()
    t.again()


def stop_actor(t: Try) -> None:
    """A worker does nothing any more, and does not die."""
    t.begin()
    t.reach()
    t.stop(t.victim())
    t.end()


def stop_rank(t: Try) -> None:
    """A rank does nothing any more, and does not die."""
    t.begin()
    t.reach()
    t.stop(t.victim(RANK))
    t.end()


def full_disk(t: Try) -> None:
    """The disk is full; after there is room again, the same command goes on."""
    t.begin()
    t.reach()
    t.fill_disk()
    succeeded = t.end_or_fail()
    t.free_disk()
    if not succeeded:
        t.again()


def no_memory(t: Try) -> None:
    """A worker gets no more memory."""
    t.begin()
    t.reach()
    t.no_memory(t.victim())
    t.end()


def clock_jumps_back(t: Try) -> None:
    """The wall clock of every process jumps back by an hour."""
    t.begin()
    t.reach()
    t.world.clock.write_text("-3600")
    t.end()


def bit_in_unfinished_shards(t: Try) -> None:
    """A finished shard of an unfinished job is damaged while no job runs."""
    t.begin()
    t.reach(0.2)
    t.job.kill()
    t.flip_bit(t.chance.choice(sorted(Path(t.job.place.output).glob("*.arrow"))))
    t.job.start()
    t.end()


def bit_in_shards(t: Try) -> None:
    """A shard is damaged: training refuses it, and `prepare` makes it anew."""
    t.begin()
    t.end()
    t.flip_bit(t.chance.choice(sorted(Path(t.job.place.output).glob("*.arrow"))))
    t.training_is_refused()
    t.job.start()
    t.end()


def bit_in_manifest(t: Try) -> None:
    """The manifest is damaged: training refuses it, and `prepare` makes it anew or refuses it."""
    t.begin()
    t.end()
    manifest = Path(t.job.place.output, "manifest.json")
    whole = manifest.read_bytes()
    t.flip_bit(manifest)
    t.training_is_refused()
    t.job.start()
    if not t.end_or_fail():
        manifest.write_bytes(whole)
    elif manifest.read_bytes() != whole:
        t.wrong.append("prepare leaves the damaged manifest")


def bit_in_checkpoint(t: Try) -> None:
    """The newest checkpoint is damaged while no job runs."""
    t.begin()
    t.reach(0.35)
    t.job.kill()
    wait_for(lambda: not t.world.cluster.processes(*RANK), 60)
    newest = checkpoints(t.job.place.output)[-1]
    t.flip_bit(t.chance.choice(sorted(path for path in newest.rglob("*") if path.is_file())))
    t.again()


def store_away(t: Try) -> None:
    """The object store refuses to write for some seconds."""
    t.begin()
    t.reach()
    t.world.store.denies_writes(503)
    time.sleep(t.chance.uniform(1, 10))
    t.world.store.passes()
    if not t.end_or_fail():
        t.again()


def store_gone(t: Try) -> None:
    """The object store refuses to write until the job has failed."""
    _store_answers(t, 503)


def store_denies(t: Try) -> None:
    """The object store denies writing until the job has failed."""
    _store_answers(t, 403)


def _store_answers(t: Try, status: int) -> None:
    t.begin()
    t.reach()
    t.world.store.denies_writes(status)
    succeeded = t.end_or_fail()
    t.world.store.passes()
    if not succeeded:
        t.again()


def mlflow_away(t: Try) -> None:
    """MLflow refuses connections for some seconds."""
    t.begin()
    t.reach()
    t.world.mlflow.refuses()
    time.sleep(t.chance.uniform(3, 15))
    t.world.mlflow.passes()
    t.end()


def mlflow_slow(t: Try) -> None:
    """MLflow needs two seconds for each answer."""
    t.begin()
    t.reach()
    t.world.mlflow.is_slow(2.0)
    t.end()


def mlflow_gone(t: Try) -> None:
    """MLflow refuses connections until the job has ended; the same command later completes the run."""
    t.begin()
    t.reach()
    t.world.mlflow.refuses()
    t.end()
    t.world.mlflow.passes()
    t.job.start()
    t.end()


CASES = (
    Case("prepare-worker", "SIGKILL of a worker of prepare", "prepare", kill_actor),
    Case("prepare-driver", "SIGKILL of the driver of prepare", "prepare", kill_driver),
    Case("prepare-node", "SIGKILL of a node's raylet", "prepare", kill_node),
    Case("prepare-head", "SIGKILL of the head and all nodes", "prepare", kill_head),
    Case(
        *("prepare-stopped", "SIGSTOP of a worker of prepare", "prepare", stop_actor),
        overrides=("prepare.work_unit_timeout_seconds=10",),
    ),
    Case("prepare-memory", "a worker of prepare without memory", "prepare", no_memory),
    Case("prepare-disk", "a full disk", "prepare", full_disk, place="disk"),
    Case("prepare-clock", "the clock jumps back", "prepare", clock_jumps_back),
    Case("shard-bit-unfinished", "a flipped bit in a shard, killed", "prepare", bit_in_unfinished_shards),
    Case("shard-bit", "a flipped bit in a shard", "prepare", bit_in_shards),
    Case("manifest-bit", "a flipped bit in a manifest", "prepare", bit_in_manifest),
    Case("store-away", "the object store refuses for seconds", "prepare", store_away, place="bucket"),
    Case("store-gone", "the object store refuses for good", "prepare", store_gone, place="bucket"),
    Case("store-denies", "the object store denies", "prepare", store_denies, place="bucket"),
    Case("train-rank", "SIGKILL of a rank", "train-lm", kill_rank),
    Case("train-driver", "SIGKILL of the driver of training", "train-lm", kill_driver),
    Case("train-actor", "SIGKILL of an actor of ours", "train-lm", kill_actor),
    Case("train-controller", "SIGKILL of Ray's train controller", "train-lm", kill_controller),
    Case("train-node", "SIGKILL of a node's raylet", "train-lm", kill_node),
    Case("train-head", "SIGKILL of the head and all nodes", "train-lm", kill_head),
    Case(
        *("train-stopped", "SIGSTOP of a rank", "train-lm", stop_rank),
        overrides=("ray.step_timeout_seconds=75",),
    ),
    Case("train-disk", "a full disk", "train-lm", full_disk, place="disk"),
    Case("train-store-away", "the object store refuses for seconds", "train-lm", store_away, place="bucket"),
    Case("train-store-gone", "the object store refuses for good", "train-lm", store_gone, place="bucket"),
    Case("train-clock", "the clock jumps back", "train-lm", clock_jumps_back),
    Case("checkpoint-bit", "a flipped bit in the newest checkpoint", "train-lm", bit_in_checkpoint),
    Case("mlflow-away", "MLflow is away for seconds", "train-lm", mlflow_away, on_server=True),
    Case("mlflow-slow", "MLflow is slow", "train-lm", mlflow_slow, on_server=True),
    Case("mlflow-gone", "MLflow is gone for good", "train-lm", mlflow_gone, on_server=True),
)
