"""What all tries share: the cluster, the servers behind proxies, the corpus, and the undisturbed runs."""

import logging
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.faults.cluster import Cluster
from tests.faults.histories import Runs, Shards, read_model, read_runs, read_shards
from tests.faults.jobs import Job, environment, write_corpus
from tests.faults.judge import Place
from tests.faults.processes import kill_all, wait_for
from tests.faults.proxy import Proxy
from tests.ports import free_ports, is_open

BUCKET = "faults"
LIMITS = {"prepare": 300.0, "train-lm": 600.0}
"""Seconds after which a job counts as hanging; undisturbed ones take some 10 and 30 on two idle cores."""


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed job."""

    seconds: float
    place: Place
    shards: Shards | None = None
    runs: Runs | None = None
    weights: str = ""


class World:
    """Started piece by piece, as cases ask for it; `close` ends all of it."""

    def __init__(self, root: Path) -> None:
        """`root`: a new folder with a short path."""
        self.root = root
        self.clock = root / "clock"
        self.database = root / "mlflow.db"
        self._closing: list[Any] = []
        self.store_port, self.mlflow_port = free_ports(2)
        self.store, self.mlflow = Proxy(self.store_port), Proxy(self.mlflow_port)
        self.environment = environment(root, self.store.port)
        write_corpus(root)

    @cached_property
    def cluster(self) -> Cluster:
        """The standing cluster, running."""
        cluster = Cluster(self.root, self.environment)
        self._closing.append(cluster.kill)
        cluster.start()
        return cluster

    @cached_property
    def bucket(self) -> str:
        """The URL of the bucket, without the proxy; the server is moto's, in threads of this process."""
        from moto.server import ThreadedMotoServer

        self.store_port = free_ports(1)[0]  # chosen now: a port that is not used may be taken by others
        self.store.aim(self.store_port)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.store_port, verbose=False)
        server.start()
        self._closing.append(server.stop)
        url = f"http://127.0.0.1:{self.store_port}/{BUCKET}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=30).close()
        return url

    @cached_property
    def tracking_server(self) -> str:
        """The URL of an MLflow server, through its proxy."""
        assert self.undisturbed("prepare")  # the store's tables are there
        self.mlflow_port = free_ports(1)[0]
        self.mlflow.aim(self.mlflow_port)
        with (self.root / "mlflow.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", "--workers=1"),
                    *(f"--port={self.mlflow_port}", f"--backend-store-uri=sqlite:///{self.database}"),
                ],
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self._closing.append(lambda: kill_all(server.pid))
        if not wait_for(lambda: is_open(self.mlflow_port) and self._answers(), 180, 0.5):
            raise RuntimeError(f"the MLflow server does not start; see {self.root / 'mlflow.log'}")
        return f"http://127.0.0.1:{self.mlflow.port}"

    def _answers(self) -> bool:
        url = f"http://127.0.0.1:{self.mlflow.port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=x"
        try:
            urllib.request.urlopen(url, timeout=30).close()
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False
        return True

    def job(
        self, verb: str, folder: Path, output: str, *overrides: str, tracking_uri: str | None = None
    ) -> Job:
        """A job that writes to `output` (a folder, or `s3://`) and keeps its logs in `folder`; its experiment has the
        folder's name and its own."""
        folder.mkdir(parents=True, exist_ok=True)
        experiment = f"{folder.name}-{Path(output).name}"
        arguments = [
            *(
                str(self.root / "config.yaml"),
                f'data.inputs=["{self.root}/corpus.jsonl"]',
                f"output={output}",
            ),
            *("launcher=ray", f"ray.address={self.cluster.address}"),
            *(
                f"tracking.uri={tracking_uri or f'sqlite:///{self.database}'}",
                f"tracking.experiment={experiment}",
            ),
        ]
        if verb != "prepare":
            arguments.append(f"shards={self.undisturbed('prepare').place.output}")
        seen_by_checker = output.replace(f"s3://{BUCKET}", f"http://127.0.0.1:{self.store_port}/{BUCKET}")
        place = Place(seen_by_checker, self.database, experiment)
        return Job(verb, [*arguments, *overrides], self.environment, folder, place)

    def undisturbed(self, verb: str) -> Undisturbed:
        """The undisturbed run of this verb, made once."""
        known: dict[str, Undisturbed] = self.__dict__.setdefault("_undisturbed", {})
        if verb not in known:
            folder = self.root / f"undisturbed-{verb}"
            job = self.job(verb, folder, str(folder / "out"))
            seconds = job.run(LIMITS[verb])
            if verb == "prepare":
                known[verb] = Undisturbed(seconds, job.place, shards=read_shards(job.place.output))
            else:
                model = read_model(job.place.output)
                assert model is not None
                runs = read_runs(job.place.database, job.place.experiment)
                known[verb] = Undisturbed(seconds, job.place, runs=runs, weights=model.digest)
        return known[verb]

    def calm(self) -> None:
        """Everything is well again, for the next try; actors of killed drivers are gone."""
        self.clock.unlink(missing_ok=True)
        self.store.passes()
        self.mlflow.passes()
        if "cluster" in self.__dict__:
            try:
                self.cluster.start()
            except RuntimeError:  # a head that no node can join any more: the next try gets another cluster
                self.cluster.kill()
                self.cluster.start()
            time.sleep(0.5)

    def close(self) -> None:
        """End all that was started."""
        for close in reversed(self._closing):
            close()
        for proxy in (self.store, self.mlflow):
            proxy.close()
