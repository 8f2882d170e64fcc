"""Two nodes draw one job together, and one that is drained loses nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from serve.access.keys import Keys
from serve.database import Database
from serve.local.port import free_port
from serve.settings import ScalingSettings, Settings, WorkerSettings
from tests.conftest import query
from tests.service.conftest import KEY, LIVE, wait_for
from tests.service.secrecy import NEGATIVE, PROMPT, WORDS, files_below, tellers

_NODE_CPUS = 2
_REPLICA_CPUS = 1.5  # so that no two fit on one node
_OBJECT_STORE_BYTES = 128 * 2**20
_SHARED = "SELECT count(DISTINCT worker_id) FROM images WHERE state = 'running'"
_PASSWORD = "what-no-log-may-hold"
_PICTURES = 8  # of a job: as many as two replicas hold


class TwoNodes:
    """A local Ray cluster of two raylets with the service deployed on it."""

    def __init__(self, settings: Settings) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster
        from ray.serve.config import HTTPOptions

        from serve.app import bind

        self.settings = settings
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": _NODE_CPUS,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
            },
        )
        self.second = self.add_node()
        ray.init(address=self.cluster.address, log_to_driver=False)
        serve.start(http_options=HTTPOptions(host="127.0.0.1", port=settings.port))
        serve.run(bind(settings), name="sfumato", route_prefix="/")

    def add_node(self) -> str:
        """A further node; its id."""
        node = self.cluster.add_node(num_cpus=_NODE_CPUS, object_store_memory=_OBJECT_STORE_BYTES)
        node_id: str = node.node_id
        return node_id

    def drain(self, node_id: str) -> None:
        """Ask Ray to empty the node, as an autoscaler or a spot instance's notice does."""
        command = [
            *(str(Path(sys.executable).with_name("ray")), "drain-node"),
            *("--address", self.cluster.address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"),
            *("--deadline-remaining-seconds", "120"),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def ask(self, query_: str) -> str:
        assert self.settings.database_url is not None
        return query(self.settings.database_url.get_secret_value(), query_)

    def workers(self) -> set[str]:
        """The replicas' ids."""
        return set(self.ask("SELECT id FROM workers").splitlines())

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=f"http://127.0.0.1:{self.settings.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )

    def logs(self) -> list[Path]:
        """All that Ray and Serve write, of both nodes."""
        session = Path(self.cluster.head_node.get_session_dir_path())  # type: ignore[attr-defined]
        return files_below(session / "logs")

    def close(self) -> None:
        import ray
        from ray import serve

        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        self.cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def nodes(
    database_url: str, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TwoNodes]:
    # As `sfumato up` does: what Ray starts inherits it.
    assert "//sfumato@" in database_url
    database_url = database_url.replace("//sfumato@", f"//sfumato:{_PASSWORD}@")  # not asked for
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    settings = Settings(
        database_url=database_url,
        redis_url=valkey_url,
        data_dir=tmp_path,
        port=free_port(),
        worker=WorkerSettings(max_batch=_PICTURES // 2, threads=1, drain_s=1),
        scaling=ScalingSettings(diffusion_min=2, diffusion_max=2, diffusion_cpus=_REPLICA_CPUS),
    )
    asyncio.run(admit(database_url))
    nodes = TwoNodes(settings)
    yield nodes
    logs = nodes.logs()
    nodes.close()
    assert len(logs) > 10
    assert tellers([_PASSWORD, KEY, *WORDS], logs) == {}


async def admit(database_url: str) -> None:
    """Let the test's key in."""
    database = Database(database_url, pool_size=1)
    await Keys(database).ensure(KEY)
    await database.close()


def test_two_nodes_share_a_job_and_a_drained_one_loses_nothing(nodes: TwoNodes) -> None:
    wait_for("two workers", lambda: len(nodes.workers()) == 2)
    first = nodes.workers()
    with nodes.client() as client:

        def submit(steps: int) -> str:
            body = {
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "n": _PICTURES,
                "num_inference_steps": steps,
            }
            job_id: str = client.post("/v1/jobs", json=body).json()["id"]
            return job_id

        jobs = [submit(steps=120)]
        # Alone: while one replica looks at its pictures, the other would take those of the next.
        wait_for("both draw pictures of one job", lambda: nodes.ask(_SHARED) == "2")

        nodes.add_node()
        nodes.drain(nodes.second)

        def replaced() -> bool:
            """There is work for both, however long a replica takes to come or to go."""
            if int(nodes.ask(f"SELECT count(*) {LIVE}")) < _PICTURES:
                jobs.append(submit(steps=40))
            workers = nodes.workers()
            return len(workers) == 2 and len(workers & first) == 1

        wait_for("the replica on the drained node makes room for a new one", replaced)
        wait_for("every picture ends", lambda: nodes.ask(f"SELECT count(*) {LIVE}") == "0")
        ended = [client.get(f"/v1/jobs/{job}").json() for job in jobs]
    states = [job["state"] for job in ended]
    params = [[warning["param"] for warning in job["warnings"]] for job in ended]
    assert params == [["prompt", "negative_prompt"]] * len(jobs)
    assert states == ["succeeded"] * len(jobs)
    assert nodes.ask("SELECT sum(crashes) FROM images") == "0", "handed over, not lost"
    told = "SELECT count(*) FROM events WHERE type = 'image.succeeded'"
    assert nodes.ask(told) == str(_PICTURES * len(jobs))
