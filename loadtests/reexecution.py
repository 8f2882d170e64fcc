"""`python -m loadtests.reexecution`: how long the pictures of a killed diffusion replica wait.

Starts `sfumato up` with two of them, the second of which is the spare, gives them one job at a
time, and kills a replica that draws it. A lease lasts 15 s from the last heartbeat, up to 3 s
before the death, and the reaper looks every 2 s: one picture waits 12 to 17 s for its next claim.
Where a replica held several, each is drawn alone, so that the last waits for the others as well.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from typing import Annotated, Any

import httpx2
import numpy as np
import psutil
import typer

from loadtests.chaos.processes import Role, find, ready
from loadtests.chaos.snapshot import connect
from loadtests.up import Up, short_folder
from serve.local.port import free_port

KEY = "reexecution-key-of-24-characters"
STEPS = 150
TIMEOUT_S = 120.0
_SETTINGS = {
    "SFUMATO_API_KEY": KEY,
    "SFUMATO_SCALING__DIFFUSION_MIN": "2",
    "SFUMATO_SCALING__DIFFUSION_MAX": "2",
    "SFUMATO_WORKER__THREADS": "1",
}


def main(
    kills: Annotated[int, typer.Option(help="One after another.")] = 20,
    pictures: Annotated[int, typer.Option(help="Of each job.")] = 1,
) -> None:
    """Seconds from SIGKILL to the next claim of each picture that the replica held."""
    waits = asyncio.run(run(kills, pictures))
    p50, p95 = np.percentile(waits, [50, 95])
    typer.echo(
        f"{kills} kills, {len(waits)} pictures: p50 {p50:.1f} s, p95 {p95:.1f} s,"
        f" min {min(waits):.1f} s, max {max(waits):.1f} s"
    )


async def run(kills: int, pictures: int) -> list[float]:
    folder, port = short_folder("reexecution"), free_port()
    up = Up(
        folder,
        {
            **os.environ,
            **_SETTINGS,
            "SFUMATO_PORT": str(port),
            "SFUMATO_DATA_DIR": str(folder / "data"),
        },
    )
    waits: list[float] = []
    try:
        await up.start()
        database = await connect(up.data / "run" / "postgres")
        url, headers = f"http://127.0.0.1:{port}", {"X-API-Key": KEY}
        async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            for _ in range(kills):
                await _until_whole(up, database)
                waits += await _kill_one(up, client, database, pictures)
                typer.echo(f"  {' '.join(f'{wait:.1f}' for wait in waits[-pictures:])}")
        await database.close()
    finally:
        await up.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return waits


async def _kill_one(up: Up, client: httpx2.AsyncClient, database: Any, n: int) -> list[float]:
    body = {"prompt": "red heart", "n": n, "num_inference_steps": STEPS}
    answer = await client.post("/v1/jobs", json=body)
    answer.raise_for_status()
    job_id = answer.json()["id"]
    while len(await _attempts(database, job_id)) < n:
        await asyncio.sleep(0.05)
    victim = await _busiest(find(up.pid, Role.DIFFUSION))
    before = await _attempts(database, job_id)
    victim.kill()
    killed = time.monotonic()
    claimed: dict[str, float] = {}
    while not await _ended(database, job_id):
        if time.monotonic() - killed > TIMEOUT_S:
            raise TimeoutError(f"Job {job_id} has not ended.")
        for image, attempt in (await _attempts(database, job_id)).items():
            if attempt > before[image]:
                claimed.setdefault(image, time.monotonic() - killed)
        await asyncio.sleep(0.02)
    return list(claimed.values())


async def _busiest(processes: list[psutil.Process]) -> psutil.Process:
    """Which of them draws: over a quarter of a second, whoever computes most."""

    def seconds(process: psutil.Process) -> float:
        return float(process.cpu_times().user)

    before = [seconds(process) for process in processes]
    await asyncio.sleep(0.25)
    used = [seconds(process) - was for process, was in zip(processes, before, strict=True)]
    return processes[used.index(max(used))]


async def _attempts(database: Any, job_id: str) -> dict[str, int]:
    """Of the pictures that were claimed."""
    rows = await database.fetch(
        "SELECT id::text, attempt FROM images WHERE job_id = $1::uuid AND attempt > 0", job_id
    )
    return dict(rows)


async def _ended(database: Any, job_id: str) -> bool:
    query = "SELECT finished_at IS NOT NULL FROM jobs WHERE id = $1::uuid"
    return bool(await database.fetchval(query, job_id))


async def _until_whole(up: Up, database: Any) -> None:
    """Both replicas have come up and tell that they live."""
    living = "SELECT count(*) FROM workers WHERE heartbeat_at > clock_timestamp() - interval '5 s'"
    async with asyncio.timeout(TIMEOUT_S):
        while ready(up.pid)[Role.DIFFUSION] < 2 or await database.fetchval(living) != 2:
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    typer.run(main)
