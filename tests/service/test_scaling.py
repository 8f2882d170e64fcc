"""Replicas come and go with the work, and lose none of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from pipelines.embedded import MODEL_PATH
from serve.local.port import free_port
from serve.local.postgres import LocalPostgres
from tests.conftest import query
from tests.pipelines.diffusion.lora.lora_files import matrices, save_peft
from tests.service.conftest import LIVE, Service, start, wait_for

LONG: dict[str, Any] = {
    "prompt": "a house",
    "n": 8,
    "num_inference_steps": 100,
    "seed": 1,
    "loras": [{"name": "wash"}],
}
ROUNDING = 2
"""Steps of a colour: in another batch sums round otherwise."""
AS_GOOD_AS_DONE = "UPDATE images SET seconds = 0 WHERE state IN ('queued', 'running')"
"""What is predicted of them, so that a replica is stopped while there is much to draw."""
HELD = """
    SELECT workers.id, images.id, images.attempt
    FROM workers LEFT JOIN images ON images.worker_id = workers.id"""


@pytest.fixture
def resting(folder: Path) -> Iterator[Service]:
    """A service of two pools, whose replicas may go down to none, and soon."""
    pools = {
        "main": {"models": ["sfumato-embedded"], "min": 0, "max": 2},
        "twin": {"models": ["twin"], "min": 0, "batch": 2},
    }
    service = start(
        folder,
        free_port(),
        SFUMATO_POOLS=json.dumps(pools),
        SFUMATO_SCALING__TARGET_WAIT_S="1",
        SFUMATO_SCALING__UPSCALE_DELAY_S="1",
        SFUMATO_SCALING__DOWNSCALE_DELAY_S="3",
        SFUMATO_WORKER__DRAIN_S="1",
    )
    yield service
    assert service.stop() == 0, service.output


def finished(client: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    wait_for(
        f"the end of job {job['id']}",
        lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running"),
    )
    ended: dict[str, Any] = client.get(f"/v1/jobs/{job['id']}").json()
    return ended


def stopped_at_work(database: str, work: Callable[[], None]) -> dict[str, int]:
    """What a worker that was told to stop held when last seen: the pictures, and the attempt.

    ``work`` sees to it that there is some.
    """
    seen: dict[str, dict[str, int]] = {}
    left: list[dict[str, int]] = []

    def one_left() -> bool:
        work()
        query(database, AS_GOOD_AS_DONE)
        now: dict[str, dict[str, int]] = {}
        for line in query(database, HELD).splitlines():
            worker, picture, attempt = line.split("|")
            now.setdefault(worker, {}).update({picture: int(attempt)} if picture else {})
        left.extend(seen[worker] for worker in seen.keys() - now.keys())
        seen.update({worker: held for worker, held in now.items() if held})
        return left != []

    wait_for("a replica that leaves", one_left)
    return left[0]


def add_lora(client: httpx2.Client, file: Path) -> None:
    save_peft(file, matrices(DiffusionPipeline.from_pretrained(MODEL_PATH), seed=1))
    added = client.put("/v1/operator/models/sfumato-embedded/loras/wash", content=file.read_bytes())
    assert added.status_code == 201, added.text


def pictures(client: httpx2.Client, job: dict[str, Any]) -> NDArray[np.int16]:
    """In the job's order."""
    files = (client.get(f"/v1/images/{image['id']}/original") for image in job["images"])
    return np.stack([np.asarray(Image.open(io.BytesIO(file.content)), np.int16) for file in files])


def test_replicas_follow_the_predicted_work_down_to_none_and_back(resting: Service) -> None:
    with resting.client() as client:
        wait_for("no replica", lambda: resting.replicas("Diffusion") == [])
        assert client.get("/ready").status_code == 200
        pools = {model["id"]: model["pool"] for model in client.get("/v1/models").json()["data"]}
        assert pools == {"sfumato-embedded": "main", "twin": "twin"}
        job = client.post("/v1/jobs", json={"prompt": "red heart", "model": "twin"}).json()
        wait_for("a replica of its pool", lambda: resting.replicas("Diffusion-twin") != [])
        assert resting.replicas("Diffusion-main") == [], "which has nothing to do"
        assert finished(client, job)["state"] == "succeeded"
        first = client.post("/v1/jobs", json={**LONG, "loras": []}).json()
        plain = finished(client, first)
        assert plain["state"] == "succeeded", "the first job brings one back"

        add_lora(client, resting.folder / "wash.safetensors")
        database = LocalPostgres(resting.folder / "data").url
        jobs: list[dict[str, Any]] = []

        def work() -> None:
            """There is some for two, however long a replica takes to come or to go."""
            if int(query(database, f"SELECT count(*) {LIVE}")) < 2 * LONG["n"]:
                jobs.append(client.post("/v1/jobs", json=LONG).json())

        def two_draw() -> bool:
            work()
            return query(database, f"SELECT count(DISTINCT worker_id) {LIVE}") == "2"

        wait_for("two replicas that draw", two_draw)
        left = stopped_at_work(database, work)
        wait_for("no replica", lambda: resting.replicas("Diffusion") == [])
        ended = [finished(client, job) for job in jobs]
        assert {job["state"] for job in ended} == {"succeeded"}
        drawn = np.stack([pictures(client, job) for job in ended])
        assert np.abs(drawn - drawn[0]).max() <= ROUNDING, "both replicas drew with the LoRA"
        assert np.abs(drawn[0] - pictures(client, plain)).max() > 10 * ROUNDING
        assert query(database, "SELECT sum(crashes) FROM images") == "0"
        assert query(database, "SELECT count(*) FROM workers") == "0"
        told = "SELECT count(*) FROM events WHERE type = 'image.succeeded'"
        assert query(database, told) == query(database, "SELECT count(*) FROM images")
        rows = query(database, "SELECT id, attempt FROM images").splitlines()
        attempts = {picture: int(attempt) for picture, attempt in (row.split("|") for row in rows)}
        more = [attempts[picture] - attempt for picture, attempt in left.items()]
        assert set(more) <= {0, 1}, "finished, or handed back and drawn once more"
        assert 1 in more, "it was drawing"
