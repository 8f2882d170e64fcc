"""A redeploy under load, with sockets open, loses nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from loadtests.chaos.checker import check
from loadtests.chaos.clients import Load
from loadtests.chaos.evidence import Evidence
from loadtests.chaos.history import History, Operation, Phase, read_history
from loadtests.chaos.plans import JobPlan
from loadtests.chaos.processes import gcs_address
from loadtests.chaos.snapshot import Snapshot, connect, running_images, take_snapshot
from loadtests.events.service import TERMINAL, Acknowledgements
from loadtests.events.service import Service as Events
from serve.local.port import free_port
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey
from tests.service.conftest import KEY, Service, start

REPOSITORY = Path(__file__).parents[2]
DEPLOYMENTS = ("Diffusion", "Postprocess", "Ingress")
JOBS_PER_S = 1.0
LONG_JOBS = 4  # they come first, and are being drawn when the old replica is told to stop
LAST_JOBS = 2  # once every old replica is gone
WATCHERS = 4
PATIENCE_S = 300.0
TIRED = "TimeoutError"  # of a client that heard nothing for 30 s, and closed its socket


@pytest.fixture(params=["false", "true"], ids=["behind-serve", "behind-haproxy"])
def doubled(folder: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with two ingress replicas, so that there is always another one to resume on."""
    service = start(
        folder,
        free_port(),
        SFUMATO_HAPROXY=request.param,
        SFUMATO_SCALING__INGRESS_MIN="2",
        SFUMATO_WORKER__THREADS="1",
        SFUMATO_WORKER__DRAIN_S="1",
    )
    yield service
    assert service.stop() == 0, service.output


class Watcher:
    """Follows all jobs, acknowledges, and comes back by number however often it is closed.

    Each job on each connection is in the history as a connection of its own, as the checker has it.
    """

    def __init__(self, name: str, events: Events, history: History) -> None:
        self.ended: set[str] = set()
        self.name = name
        self._events = events
        self._history = history
        self._seen: dict[str, int] = {}  # the last number of each job that has not ended

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            connection = uuid4().hex
            try:
                async with self._events.socket() as socket:
                    await self._read(socket, connection)
            except ConnectionClosed as error:
                reason = f"closed {error.rcvd.code if error.rcvd else 'bare'}"
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = type(error).__name__
                await asyncio.sleep(0.1)
            self._history.add(
                self.name, Phase.INFO, Operation.WATCH, connection=connection, reason=reason
            )

    async def _read(self, socket: ClientConnection, connection: str) -> None:
        acknowledgements = Acknowledgements()
        told = set(self._seen)
        for job_id, seq in self._seen.items():
            self._note_watch(connection, job_id, seq)
            await socket.send(json.dumps({"type": "watch", "job_id": job_id, "after": seq}))
        await socket.send(json.dumps({"type": "watch_all"}))
        while True:
            event = json.loads(await socket.recv())
            assert event["type"] != "error", event
            job_id, seq = event["job_id"], event["seq"]
            if seq is not None and job_id not in self.ended:
                if job_id not in told:
                    told.add(job_id)
                    self._note_watch(connection, job_id, 0)
                self._note_event(connection, job_id, seq, event["type"])
            if (due := acknowledgements.received()) is not None:
                await socket.send(due)

    def _note_watch(self, connection: str, job_id: str, after: int) -> None:
        self._history.add(
            self.name,
            Phase.INVOKE,
            Operation.WATCH,
            connection=f"{connection} {job_id}",
            job_id=job_id,
            after=after,
        )

    def _note_event(self, connection: str, job_id: str, seq: int, kind: str) -> None:
        self._history.add(
            self.name,
            Phase.OK,
            Operation.EVENT,
            connection=f"{connection} {job_id}",
            job_id=job_id,
            seq=seq,
            type=kind,
        )
        self._seen[job_id] = seq
        if kind in TERMINAL:
            del self._seen[job_id]
            self.ended.add(job_id)


def plans() -> Iterator[JobPlan]:
    """The long jobs, and then short ones without end, half of them followed by their client."""
    for number in count():
        long = number < LONG_JOBS
        yield JobPlan(
            number=number,
            key=str(UUID(int=number)),
            body={"prompt": "a house", "num_inference_steps": 150 if long else 4},
            synchronous=False,
            twice=False,
            conflict=False,
            follow=long or number % 2 == 0,
            cancel_after_s=None,
            fetch=True,
        )


def redeploy(service: Service, **changed: str) -> None:
    """`serve.run` with changed settings; returns once every replica has been replaced."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtests.chaos.redeploy"),
            gcs_address(service.process.pid),
        ],
        cwd=REPOSITORY,
        env={
            **service.environment,
            "DATABASE_URL": LocalPostgres(service.folder / "data").url,
            "REDIS_URL": LocalValkey(service.folder / "data").url,
            "PYTHONPATH": str(REPOSITORY),
            **changed,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def pids(service: Service) -> set[int]:
    """Of all replicas."""
    return {replica.pid for name in DEPLOYMENTS for replica in service.replicas(name)}


async def until_drawing(service: Service) -> None:
    connection = await connect(service.folder / "data" / "run" / "postgres")
    async with asyncio.timeout(PATIENCE_S):
        while not await running_images(connection):
            await asyncio.sleep(0.1)
    await connection.close()


async def snapshot_of(service: Service) -> Snapshot:
    data = service.folder / "data"
    connection = await connect(data / "run" / "postgres")
    snapshot = await take_snapshot(connection, data / "pictures")
    await connection.close()
    return snapshot


async def until_heard(watchers: list[Watcher], path: Path) -> None:
    """Each watcher has been told the end of each job that was accepted."""
    accepted = {
        record.value["job_id"]
        for record in read_history(path)
        if (record.operation, record.phase) == (Operation.SUBMIT, Phase.OK)
    }
    async with asyncio.timeout(PATIENCE_S):
        while not all(watcher.ended >= accepted for watcher in watchers):
            await asyncio.sleep(0.1)


async def test_a_redeploy_under_load_with_open_sockets_loses_nothing(
    doubled: Service, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    old = pids(doubled)
    with History(path) as history:
        load = Load(
            plans(),
            JOBS_PER_S,
            url=doubled.url,
            key=KEY,
            history=history,
            patience_s=PATIENCE_S,
        )
        events = Events(doubled.url, KEY)
        watchers = [Watcher(f"watcher-{number}", events, history) for number in range(WATCHERS)]
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(watcher.run()) for watcher in watchers]
            load.burst(LONG_JOBS / JOBS_PER_S, 1)
            await until_drawing(doubled)
            steady = group.create_task(load.run(sys.maxsize))
            await asyncio.to_thread(redeploy, doubled, SFUMATO_WORKER__DRAIN_S="20")
            assert not old & pids(doubled), "every replica was replaced"
            steady.cancel()
            await load.run(LAST_JOBS)
            assert await load.settle(PATIENCE_S) == 0
            await until_heard(watchers, path)
            for task in watching:
                task.cancel()
    snapshot = await snapshot_of(doubled)
    evidence = Evidence(read_history(path), snapshot)
    assert check(evidence.history, snapshot) == []
    assert len(snapshot.jobs) == load.jobs
    assert {job.state for job in snapshot.jobs} == {"succeeded"}
    assert {image.crashes for image in snapshot.images} == {0}, "handed over, not lost"
    assert max(image.attempt for image in snapshot.images) == 2, "some were handed over"

    closed = list(evidence.records(Operation.WATCH, Phase.INFO))
    codes = {record.value["reason"] for record in closed} - {TIRED}
    assert codes == {"closed 1012"}
    left = {record.process for record in closed if record.value["reason"] != TIRED}
    assert left > {watcher.name for watcher in watchers}, "and clients of one job"
